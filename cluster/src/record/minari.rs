//! [`Dataset`]: writes a dataset in the HDF5 layout of the Python library Minari. The module `learner::offline`
//! describes and reads this layout.
//!
//! Observations are 32-bit floats, or uncompressed bytes (not JPEG) if they are images. Continuous actions are in the
//! environment's units; discrete actions are 64-bit integers, counted from the first index of the environment's action
//! space. Flags have the HDF5 type that h5py uses for booleans. The whole file is held in memory until it is written. A
//! dataset is complete or does not exist.

use actor_node::env::EnvOrigin;
use anyhow::Context as _;
use common::spec::{ActionKind, EnvSpec};
use hdf5_pure::{AttrValue, Datatype, EnumTypeBuilder, FileBuilder, GroupBuilder, make_i8_type};
use serde_json::{Value, json};
use std::path::Path;

const MAIN: &str = "main_data.hdf5";
const METADATA: &str = "metadata.json";
/// Minari version in the metadata. It is the oldest version with this layout, so that this version and all later ones
/// read the dataset.
const MINARI_VERSION: &str = "0.5.0";

/// One recorded episode of n steps. An observation has O numbers. An action has W numbers; W is 1 if actions are
/// discrete.
#[derive(Debug, Clone, Default)]
pub struct MinariEpisode {
    /// Seed of the start state.
    pub seed: u64,
    /// Observations (n+1, O): one before each step and one after the last step.
    pub obs: Vec<f32>,
    /// Actions (n, W): in the environment's units, or the index of a discrete action.
    pub actions: Vec<f32>,
    /// Rewards (n).
    pub rewards: Vec<f64>,
    /// Flags (n): whether the episode terminated at that step.
    pub terminated: Vec<bool>,
    /// Flags (n): whether the episode was truncated after that step.
    pub truncated: Vec<bool>,
}

/// Metadata of a dataset.
#[derive(Debug, Clone)]
pub struct About {
    /// Dataset id, `NAMESPACE/NAME-vVERSION`.
    pub id: String,
    /// Algorithm that the policy was trained with.
    pub algorithm: String,
    /// Description in one sentence.
    pub description: String,
    /// Origin of the data: environment, wrappers, policy version and seed. It is stored under the key `sapex`.
    pub sapex: Value,
}

/// Returns the default dataset id of an environment, `sapex/ENV/recorded-v0`.
pub fn default_id(env: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("sapex/{}/recorded-v0", env.chars().map(allowed).collect::<String>())
}

/// Checks that the library accepts `id` as a dataset id.
///
/// # Errors
/// Returns the expected form of an id.
pub fn check_id(id: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let (names, version) = id.rsplit_once("-v").unwrap_or((id, ""));
    let is_number = !version.is_empty() && version.chars().all(|c| c.is_ascii_digit());
    let is_name = |name: &str| !name.is_empty() && name.chars().all(allowed);
    if is_number && names.split('/').all(is_name) {
        return Ok(());
    }
    let example = default_id("Pendulum-v1");
    Err(format!("expected NAMESPACE/NAME-vVERSION of letters, digits, - and _, such as {example}"))
}

/// A dataset under construction, held in memory.
pub struct Dataset {
    spec: EnvSpec,
    origin: EnvOrigin,
    flag: Datatype,
    file: FileBuilder,
    episodes: u64,
    steps: u64,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset({}, {} episodes, {} steps)", self.spec.id, self.episodes, self.steps)
    }
}

impl Dataset {
    /// Creates a dataset of an environment, without episodes.
    ///
    /// # Errors
    /// Returns an error if the HDF5 type for booleans cannot be built.
    pub fn new(spec: EnvSpec, origin: EnvOrigin) -> anyhow::Result<Self> {
        let flag = EnumTypeBuilder::with_base(make_i8_type());
        let flag = flag.value("FALSE", 0).value("TRUE", 1).build()?;
        Ok(Self { spec, origin, flag, file: FileBuilder::new(), episodes: 0, steps: 0 })
    }

    /// Appends an episode.
    pub fn push(&mut self, episode: &MinariEpisode) {
        let mut group = self.file.create_group(&format!("episode_{}", self.episodes));
        let steps = episode.rewards.len() as u64;
        group.set_attr("id", AttrValue::U64(self.episodes));
        group.set_attr("seed", AttrValue::U64(episode.seed));
        group.set_attr("total_steps", AttrValue::U64(steps));
        self.write_obs(&mut group, episode, steps + 1);
        self.write_actions(&mut group, episode, steps);
        group.create_dataset("rewards").with_f64_data(&episode.rewards);
        for (name, flags) in
            [("terminations", &episode.terminated), ("truncations", &episode.truncated)]
        {
            let bytes: Vec<u8> = flags.iter().copied().map(u8::from).collect();
            group.create_dataset(name).with_enum_u8_data(self.flag.clone(), &bytes);
        }
        self.file.add_group(group.finish());
        self.episodes += 1;
        self.steps += steps;
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "images are bytes kept as floats"
    )]
    fn write_obs(&self, group: &mut GroupBuilder, episode: &MinariEpisode, rows: u64) {
        let obs = group.create_dataset("observations");
        if let Some([channels, height, width]) = self.spec.obs_image {
            let bytes: Vec<u8> = episode.obs.iter().map(|&value| value as u8).collect();
            obs.with_u8_data(&bytes);
            obs.with_shape(&[rows, channels as u64, height as u64, width as u64]);
        } else {
            obs.with_f32_data(&episode.obs).with_shape(&[rows, self.spec.obs_dim as u64]);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "indices")]
    fn write_actions(&self, group: &mut GroupBuilder, episode: &MinariEpisode, rows: u64) {
        let actions = group.create_dataset("actions");
        match self.spec.actions {
            ActionKind::Continuous => {
                actions.with_f32_data(&episode.actions);
                actions.with_shape(&[rows, self.spec.act_dim as u64]);
            }
            ActionKind::Discrete => {
                let first = self.origin.action_start;
                let choices =
                    episode.actions.iter().map(|&index| first.saturating_add(index as i64));
                actions.with_i64_data(&choices.collect::<Vec<_>>());
            }
        }
    }

    /// Writes the dataset to the folder `data`, which must not exist.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be written. The folder does not exist in that case.
    pub fn write(self, data: &Path, about: &About) -> anyhow::Result<()> {
        let partial = data.with_file_name(".data.partial");
        fs_err::create_dir_all(&partial)?;
        let main = partial.join(MAIN);
        let Self { spec, origin, file, episodes, steps, .. } = self;
        file.write(&main).with_context(|| main.display().to_string())?;
        let bytes = fs_err::metadata(&main)?.len();
        let metadata = metadata((&spec, &origin), (episodes, steps, bytes), about);
        fs_err::write(partial.join(METADATA), serde_json::to_vec_pretty(&metadata)?)?;
        fs_err::rename(&partial, data)?;
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "megabytes to a tenth")]
fn metadata(
    (spec, origin): (&EnvSpec, &EnvOrigin),
    (episodes, steps, bytes): (u64, u64, u64),
    about: &About,
) -> Value {
    let mut metadata = json!({
        "total_episodes": episodes,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": false,
        "observation_space": observation_space(spec, origin),
        "action_space": action_space(spec, origin),
        "dataset_id": about.id,
        "algorithm_name": about.algorithm,
        "author": ["sapex"],
        "author_email": [],
        "code_permalink": "",
        "description": about.description,
        "minari_version": MINARI_VERSION,
        "dataset_size": (bytes as f64 / 1e5).round() / 10.0,
        "sapex": about.sapex,
    });
    if let Some(env_spec) = &origin.env_spec {
        metadata["env_spec"] = env_spec.as_str().into();
    }
    metadata
}

/// Returns Minari's JSON description of the observation space as text. It is not a JSON value, because it may contain
/// infinities, which JSON does not allow.
fn observation_space(spec: &EnvSpec, origin: &EnvOrigin) -> String {
    let same = |value: &str, shape: &[usize]| {
        let nested = |inner: String, &count: &usize| format!("[{}]", vec![inner; count].join(", "));
        shape.iter().rev().fold(value.to_owned(), nested)
    };
    let of_each = |bounds: &[Option<f32>], infinity: &str| {
        let text =
            |bound: &Option<f32>| bound.map_or(infinity.to_owned(), |bound| format!("{bound:?}"));
        match bounds {
            [] => same(infinity, &[spec.obs_dim]),
            bounds => format!("[{}]", bounds.iter().map(text).collect::<Vec<_>>().join(", ")),
        }
    };
    let (dtype, shape, low, high) = match spec.obs_image {
        Some(shape) => ("uint8", shape.to_vec(), same("0", &shape), same("255", &shape)),
        None => {
            let low = of_each(&origin.obs_low, "-Infinity");
            ("float32", vec![spec.obs_dim], low, of_each(&origin.obs_high, "Infinity"))
        }
    };
    format!(
        r#"{{"type": "Box", "dtype": "{dtype}", "shape": {shape:?}, "low": {low}, "high": {high}}}"#
    )
}

fn action_space(spec: &EnvSpec, origin: &EnvOrigin) -> String {
    match spec.actions {
        ActionKind::Continuous => json!({
            "type": "Box",
            "dtype": "float32",
            "shape": [spec.act_dim],
            "low": spec.action_low,
            "high": spec.action_high,
        }),
        ActionKind::Discrete => json!({
            "type": "Discrete", "dtype": "int64", "start": origin.action_start, "n": spec.act_dim,
        }),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_the_library_takes() {
        for id in ["a/b-v0", "Pendulum-v1/x-v12", "x-v0", &default_id("gym:mypkg.envs:My Env-v0")] {
            check_id(id).unwrap();
        }
        for id in ["", "x", "x-v", "x-v1a", "/x-v0", "a//x-v0", "a b/x-v0", "a/-v0/", "é-v0"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
