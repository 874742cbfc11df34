//! [`Metadata`]: the description of a Minari dataset, and the checks of this description against a run's settings.

use crate::offline::{DatasetError, MINARI_METADATA as METADATA};
use common::config::ClusterConfig;
use common::spec::{ActionKind, EnvSpec, ItemLayout};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Storage layout of the episodes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// All episodes in one file.
    Hdf5,
    /// One file per episode.
    Arrow,
}

#[derive(Debug, Deserialize)]
struct Described {
    total_episodes: u64,
    total_steps: u64,
    data_format: String,
    observation_space: String,
    action_space: String,
}

/// Description of a dataset, and the path of the file from which the description was read.
pub(super) struct Metadata {
    path: PathBuf,
    is: Described,
}

impl Metadata {
    /// Reads the description of the dataset in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, DatasetError> {
        let path = dir.join(METADATA);
        let text = fs_err::read_to_string(&path)?;
        match serde_json::from_str(&text) {
            Ok(is) => Ok(Self { path, is }),
            Err(source) => Err(DatasetError::Json { path, source }),
        }
    }

    /// Returns the total number of steps of all episodes, as the description states it.
    pub(super) fn total_steps(&self) -> u64 {
        self.is.total_steps
    }

    fn differs(&self, what: &str, found: impl ToString, expected: impl ToString) -> DatasetError {
        let (what, found, expected) = (what.to_owned(), found.to_string(), expected.to_string());
        DatasetError::Differs { path: self.path.clone(), what, found, expected }
    }

    /// Returns the storage layout of the episodes.
    pub(super) fn format(&self) -> Result<Format, DatasetError> {
        match &self.is.data_format[..] {
            "hdf5" => Ok(Format::Hdf5),
            "arrow" => Ok(Format::Arrow),
            other => {
                let expected = "\"hdf5\" or \"arrow\": copy its episodes with \
                                minari.create_dataset_from_buffers(..., data_format=\"hdf5\")";
                Err(self.differs("data_format", format!("{other:?}"), expected))
            }
        }
    }

    /// Checks that the number of episodes in the description equals `counted` and is at least one. `counted` is the
    /// number of episodes in the file or folder `home`.
    pub(super) fn expect_episodes(&self, counted: u64, home: &str) -> Result<(), DatasetError> {
        self.expect("total_episodes", self.is.total_episodes, counted, home)?;
        if counted == 0 {
            return Err(self.differs("total_episodes", 0, "at least 1"));
        }
        Ok(())
    }

    /// Checks that the number of steps in the description equals `counted`, the number of steps in the file or folder
    /// `home`.
    pub(super) fn expect_steps(&self, counted: u64, home: &str) -> Result<(), DatasetError> {
        self.expect("total_steps", self.is.total_steps, counted, home)
    }

    fn expect(&self, what: &str, found: u64, counted: u64, home: &str) -> Result<(), DatasetError> {
        if found == counted {
            return Ok(());
        }
        Err(self.differs(what, found, format!("{counted}, as many as {home} has")))
    }

    /// Refuses settings for which a Minari dataset cannot provide the rows: sequences, recurrent states and images.
    pub(super) fn expect_transitions(
        &self,
        spec: &EnvSpec,
        cluster: &ClusterConfig,
        layout: &ItemLayout,
    ) -> Result<(), DatasetError> {
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

    /// Refuses a dataset whose observation space or action space differs from the environment's.
    pub(super) fn expect_spaces(&self, spec: &EnvSpec) -> Result<(), DatasetError> {
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

    /// Returns the number by which the dataset denotes the first discrete action.
    pub(super) fn first_choice(&self) -> Result<f64, DatasetError> {
        Ok(self.space(&self.is.action_space)?["start"].as_f64().unwrap_or(0.0))
    }

    /// Parses the JSON of a space. Replaces infinite bounds by null, because they are not valid JSON. This loses
    /// nothing: an infinite action bound is refused in any case, and observation bounds are not used.
    fn space(&self, text: &str) -> Result<Value, DatasetError> {
        let text = text.replace("-Infinity", "null").replace("Infinity", "null");
        serde_json::from_str(&text)
            .map_err(|source| DatasetError::Json { path: self.path.clone(), source })
    }
}

/// Describes a space in a few words. For a Dict, lists the keys.
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
