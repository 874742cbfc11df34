//! Datasets of the Python library Minari, in its HDF5 layout.
//!
//! | file | content |
//! |---|---|
//! | `data/metadata.json` | spaces (JSON within JSON, with the infinities that JSON does not have), episodes, steps, layout |
//! | `data/main_data.hdf5` | a group `episode_N` for each episode: |
//! | `episode_N/observations` | (n+1, O): before each of its n steps, and after the last one |
//! | `episode_N/actions` | (n, A) in the environment's units, or (n) numbers of discrete ones |
//! | `episode_N/rewards`, `/terminations`, `/truncations` | (n) |
//!
//! Episodes are read one at a time, in the order of their numbers.

use super::transitions::{Episode, Transitions};
use super::{DatasetError, reserve};
use common::config::Cluster;
use common::spec::{ActionKind, EnvSpec, ItemLayout};
use hdf5_pure::{File, Group};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a Minari dataset's folder is known by.
pub(super) const METADATA: &str = "data/metadata.json";
const MAIN: &str = "data/main_data.hdf5";
/// How far a normalised action may lie outside of [-1, 1]: what rounding does. It is then moved to the bound.
const ACTION_SLACK: f64 = 1e-5;
/// Of one number in the file.
const ELEMENT_BYTES_MAX: u64 = 8;

#[derive(Debug, Deserialize)]
struct Metadata {
    total_episodes: u64,
    total_steps: u64,
    data_format: String,
    observation_space: String,
    action_space: String,
}

/// Reads the dataset in `dir` into rows of that layout.
pub(super) fn read(
    dir: &Path,
    spec: &EnvSpec,
    cluster: &Cluster,
    layout: &ItemLayout,
) -> Result<Vec<u8>, DatasetError> {
    let metadata = Described::read(dir.join(METADATA))?;
    metadata.expect_transitions(spec, cluster, layout)?;
    metadata.expect_spaces(spec)?;
    let start = metadata.space(&metadata.is.action_space)?["start"].as_f64().unwrap_or(0.0);
    let mut rows = reserve(metadata.is.total_steps, layout.row_bytes)?;
    let reader = Reader { path: dir.join(MAIN), spec, start };
    let transitions = Transitions::new(cluster, layout);
    let episodes = reader.episodes()?;
    metadata.expect("total_episodes", metadata.is.total_episodes, episodes.len() as u64)?;
    if episodes.is_empty() {
        return Err(metadata.differs("total_episodes", 0, "at least 1"));
    }
    let mut steps_left = metadata.is.total_steps;
    for (number, group) in &episodes {
        let episode = reader.episode(*number, group, steps_left)?;
        steps_left -= episode.rewards.len() as u64;
        transitions.append(&episode, &mut rows);
    }
    let total = metadata.is.total_steps;
    metadata.expect("total_steps", total, total - steps_left)?;
    Ok(rows)
}

/// The description, and where it was found.
struct Described {
    path: PathBuf,
    is: Metadata,
}

impl Described {
    fn read(path: PathBuf) -> Result<Self, DatasetError> {
        let text = fs_err::read_to_string(&path)?;
        match serde_json::from_str(&text) {
            Ok(is) => Ok(Self { path, is }),
            Err(source) => Err(DatasetError::Json { path, source }),
        }
    }

    fn differs(&self, what: &str, found: impl ToString, expected: impl ToString) -> DatasetError {
        let (what, found, expected) = (what.to_owned(), found.to_string(), expected.to_string());
        DatasetError::Differs { path: self.path.clone(), what, found, expected }
    }

    /// A count in the description, against what the episodes say.
    fn expect(&self, what: &str, found: u64, counted: u64) -> Result<(), DatasetError> {
        if found == counted {
            return Ok(());
        }
        Err(self.differs(what, found, format!("{counted}, as many as {MAIN} has")))
    }

    /// Refuses what cannot be made of a Minari dataset's episodes.
    fn expect_transitions(
        &self,
        spec: &EnvSpec,
        cluster: &Cluster,
        layout: &ItemLayout,
    ) -> Result<(), DatasetError> {
        if self.is.data_format != "hdf5" {
            let expected = "\"hdf5\": copy its episodes with \
                            minari.create_dataset_from_buffers(..., data_format=\"hdf5\")";
            return Err(self.differs(
                "data_format",
                format!("{:?}", self.is.data_format),
                expected,
            ));
        }
        if layout.field("state").is_some() || cluster.sequence_len > 1 {
            let expected = "a recording of this run's actors (actor.record): \
                            sequences and states of recurrent policies are only there";
            return Err(self.differs("the dataset", "one of Minari", expected));
        }
        if spec.obs_image.is_some() {
            let expected = "a recording of this run's actors (actor.record): \
                            Minari keeps images as JPEG";
            return Err(self.differs("the dataset", "one of Minari", expected));
        }
        Ok(())
    }

    fn expect_spaces(&self, spec: &EnvSpec) -> Result<(), DatasetError> {
        let space = self.space(&self.is.observation_space)?;
        let expected = format!("Box of shape [{}]", spec.obs_dim);
        if kind(&space) != expected {
            return Err(self.differs("observation_space", kind(&space), expected));
        }
        let space = self.space(&self.is.action_space)?;
        let expected = match spec.actions {
            ActionKind::Continuous => format!("Box of shape [{}]", spec.act_dim),
            ActionKind::Discrete => format!("Discrete of {}", spec.act_dim),
        };
        if kind(&space) != expected {
            return Err(self.differs("action_space", kind(&space), expected));
        }
        for (bound, expected) in [("low", &spec.action_low), ("high", &spec.action_high)] {
            #[expect(clippy::cast_possible_truncation, reason = "bounds are f32")]
            let equal =
                |(found, own): (&Value, &f32)| found.as_f64().is_some_and(|x| x as f32 == *own);
            let found = space[bound].as_array().map_or(&[][..], Vec::as_slice);
            let equal = found.len() == expected.len() && found.iter().zip(expected).all(equal);
            if !equal {
                let what = format!("{bound} of action_space");
                return Err(self.differs(&what, &space[bound], format!("{expected:?}")));
            }
        }
        Ok(())
    }

    /// A space's JSON. Infinite bounds are read as null: no bound of an action may be infinite, and those of observations
    /// do not matter.
    fn space(&self, text: &str) -> Result<Value, DatasetError> {
        let text = text.replace("-Infinity", "null").replace("Infinity", "null");
        serde_json::from_str(&text)
            .map_err(|source| DatasetError::Json { path: self.path.clone(), source })
    }
}

/// What a space is, in a word; a Dict with its keys.
fn kind(space: &Value) -> String {
    let kind = space["type"].as_str().unwrap_or("no space");
    match (kind, &space["subspaces"]) {
        ("Box", _) => format!("Box of shape {}", space["shape"]),
        ("Discrete", _) => format!("Discrete of {}", space["n"]),
        ("Dict", Value::Object(members)) => {
            let keys: Vec<_> = members.keys().map(String::as_str).collect();
            format!("Dict with the key {}", keys.join(", "))
        }
        _ => kind.to_owned(),
    }
}

/// Reads episodes of one file.
struct Reader<'a> {
    path: PathBuf,
    spec: &'a EnvSpec,
    /// The number of the first discrete action.
    start: f64,
}

impl Reader<'_> {
    fn failed(&self, place: &str) -> impl FnOnce(hdf5_pure::Error) -> DatasetError {
        let (path, place) = (self.path.clone(), place.to_owned());
        move |source| DatasetError::Hdf5 { path, place, source: Box::new(source) }
    }

    fn differs(&self, what: String, found: impl ToString, expected: impl ToString) -> DatasetError {
        let (found, expected) = (found.to_string(), expected.to_string());
        DatasetError::Differs { path: self.path.clone(), what, found, expected }
    }

    /// The groups of all episodes, by number.
    fn episodes(&self) -> Result<Vec<(u64, Group)>, DatasetError> {
        let file = File::open_streaming(&self.path).map_err(self.failed("the file"))?;
        // One walk for all: looking groups up by name walks the file's list of groups for each.
        let groups = file.root().iter_groups().map_err(self.failed("the root group"))?;
        let mut episodes = Vec::with_capacity(groups.len());
        for (name, group) in groups {
            let number = name.strip_prefix("episode_").and_then(|number| number.parse().ok());
            let wrong = || self.differs("a group".into(), format!("{name:?}"), "episode_N");
            episodes.push((number.ok_or_else(wrong)?, group));
        }
        episodes.sort_by_key(|(number, _)| *number);
        Ok(episodes)
    }

    /// One episode of at most `steps_max` steps.
    fn episode(&self, number: u64, group: &Group, steps_max: u64) -> Result<Episode, DatasetError> {
        let read = |field: &str, rows: u64, width: Option<usize>| {
            self.values(&format!("episode_{number}/{field}"), group, field, rows, width)
        };
        let place = format!("episode_{number}/rewards");
        let rewards = group.dataset("rewards").map_err(self.failed(&place))?;
        let shape = rewards.shape().map_err(self.failed(&place))?;
        let [steps] = shape[..] else {
            return Err(self.differs(format!("shape of {place}"), format!("{shape:?}"), "[n]"));
        };
        if !(1..=steps_max).contains(&steps) {
            let expected = format!("1 to {steps_max}, what is left of total_steps in {METADATA}");
            return Err(self.differs(format!("length of {place}"), steps, expected));
        }
        let obs = read("observations", steps + 1, Some(self.spec.obs_dim))?;
        let is_continuous = self.spec.actions == ActionKind::Continuous;
        let actions = read("actions", steps, is_continuous.then_some(self.spec.act_dim))?;
        let flags = |field| {
            let values = read(field, steps, None)?;
            let is_flag = |(_, x): &(usize, &f64)| **x != 0.0 && **x != 1.0;
            match values.iter().enumerate().find(is_flag) {
                None => Ok(values.iter().map(|&x| x == 1.0).collect()),
                Some((step, x)) => {
                    let what = format!("episode_{number}/{field}[{step}]");
                    Err(self.differs(what, x, "true or false"))
                }
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "checked: finite as f32")]
        Ok(Episode {
            obs: obs.into_iter().map(|x| x as f32).collect(),
            actions: self.actions(number, actions)?,
            rewards: read("rewards", steps, None)?,
            terminated: flags("terminations")?,
            truncated: flags("truncations")?,
        })
    }

    /// A dataset of the expected shape, (rows) or (rows, width), all finite as f32. The shape is checked before anything
    /// is allocated.
    fn values(
        &self,
        place: &str,
        group: &Group,
        field: &str,
        rows: u64,
        width: Option<usize>,
    ) -> Result<Vec<f64>, DatasetError> {
        let dataset = group.dataset(field).map_err(self.failed(place))?;
        let shape = dataset.shape().map_err(self.failed(place))?;
        let expected: Vec<u64> = [rows].into_iter().chain(width.map(|w| w as u64)).collect();
        if shape != expected {
            let (found, expected) = (format!("{shape:?}"), format!("{expected:?}"));
            return Err(self.differs(format!("shape of {place}"), found, expected));
        }
        // A damaged type may announce elements of gigabytes.
        let element = dataset.element_size().map_err(self.failed(place))?;
        if element > ELEMENT_BYTES_MAX {
            let expected = format!("numbers of at most {ELEMENT_BYTES_MAX} bytes");
            return Err(self.differs(
                format!("type of {place}"),
                format!("{element} bytes"),
                expected,
            ));
        }
        let values = dataset.read_f64().map_err(self.failed(place))?;
        #[expect(clippy::cast_possible_truncation, reason = "that is what is asked")]
        let is_finite = |x: f64| (x as f32).is_finite();
        match values.iter().position(|x| !is_finite(*x)) {
            None => Ok(values),
            Some(at) => {
                let (step, index) = (at / width.unwrap_or(1), at % width.unwrap_or(1));
                let what = format!("{place}[{step}, {index}]");
                Err(self.differs(what, values[at], "a finite 32-bit number"))
            }
        }
    }

    /// Continuous actions normalised by the environment's bounds, discrete ones counted from 0.
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn actions(&self, number: u64, actions: Vec<f64>) -> Result<Vec<f32>, DatasetError> {
        let (width, spec) = (self.spec.action_width(), self.spec);
        let (scale, bias) = (spec.action_scale(), spec.action_bias());
        let own = |(at, x): (usize, f64)| {
            let (step, index) = (at / width, at % width);
            let what = || format!("episode_{number}/actions[{step}, {index}]");
            if spec.actions == ActionKind::Discrete {
                let choice = x - self.start;
                return if choice.fract() == 0.0 && choice >= 0.0 && choice < spec.act_dim as f64 {
                    Ok(choice as f32)
                } else {
                    let (first, count) = (self.start, spec.act_dim);
                    Err(self.differs(what(), x, format!("one of {count} numbers from {first} on")))
                };
            }
            let normal = (x - f64::from(bias[index])) / f64::from(scale[index]);
            if normal.abs() > 1.0 + ACTION_SLACK {
                let (low, high) = (spec.action_low[index], spec.action_high[index]);
                return Err(self.differs(what(), x, format!("{low} to {high}")));
            }
            Ok(normal.clamp(-1.0, 1.0) as f32)
        };
        actions.into_iter().enumerate().map(own).collect()
    }
}
