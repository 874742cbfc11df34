//! Shapes of the native environments by name, for processes that have no environments.
//!
//! `config/shapes.toml` is embedded. `actor-node/tests/shapes.rs` generates it from the environments (`make docs`) and
//! checks that it is up to date. The file lists shapes without wrappers and options. This module applies the configured
//! wrappers. It returns no shapes if a configured option may change them.

use super::{ClusterConfig, Wrapper};
use crate::spec::{ActionKind, EnvSpec};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use toml::Value;

const SHAPES_TOML: &str = include_str!("../../../config/shapes.toml");

/// Name of an environment option that may change the observations.
const CHANGING_OPTION: &str = "xml_file";
/// Ending of the names of other options that may change the observations, such as `include_cfrc_ext_in_observation`.
const CHANGING_ENDING: &str = "_observation";

/// Shapes of one environment in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shapes {
    obs_dim: usize,
    obs_image: Vec<usize>,
    actions: ActionKind,
    act_dim: usize,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
}

static NATIVE: LazyLock<BTreeMap<String, Shapes>> =
    LazyLock::new(|| toml::from_str(SHAPES_TOML).expect("it is embedded and tested"));

/// Returns the names of all environments whose shapes are known.
pub fn known_envs() -> impl Iterator<Item = &'static str> {
    NATIVE.keys().map(String::as_str)
}

/// Returns the shapes of the environment with this name, without options and wrappers, or `None` if the shapes are
/// unknown. `gym:NAME` is Gymnasium's own version of an environment and has the same shapes as `NAME`.
pub fn known_shapes(env: &str) -> Option<EnvSpec> {
    let Shapes { obs_dim, obs_image, actions, act_dim, action_low, action_high } =
        NATIVE.get(env.strip_prefix("gym:").unwrap_or(env))?;
    Some(EnvSpec {
        id: env.to_owned(),
        obs_dim: *obs_dim,
        obs_image: <[usize; 3]>::try_from(obs_image.as_slice()).ok(),
        actions: *actions,
        act_dim: *act_dim,
        action_low: action_low.clone(),
        action_high: action_high.clone(),
        episode_steps_max: None,
    })
}

/// Returns whether an option of a native environment may change the shapes of the environment.
pub fn option_changes_shapes(option: &str) -> bool {
    option == CHANGING_OPTION || option.ends_with(CHANGING_ENDING)
}

/// Returns the shapes of the configured environment with its wrappers, or `None` if the shapes are unknown.
pub(super) fn of(cluster: &ClusterConfig) -> Option<EnvSpec> {
    let mut spec = known_shapes(&cluster.env)?;
    let is_bridged = cluster.env.starts_with("gym:");
    let changes = |text: &String| {
        is_bridged || text.split_once('=').is_some_and(|(key, _)| option_changes_shapes(key.trim()))
    };
    if cluster.env_params.iter().any(changes) {
        return None;
    }
    for wrapper in &cluster.wrappers {
        spec = match wrapper {
            Wrapper::FrameStack => spec.stacked(cluster.frame_stack),
            Wrapper::ObsFlatten => spec.flattened(),
            Wrapper::ActionRescale => {
                let [low, high] = cluster.action_rescale;
                spec.rescaled(low, high)
            }
            Wrapper::TimeLimit
            | Wrapper::ActionRepeat
            | Wrapper::RewardScale
            | Wrapper::RewardClip
            | Wrapper::ObsDelay
            | Wrapper::ActionNoise => spec,
        };
    }
    Some(spec)
}

/// Returns an environment's shapes as settings of `[cluster]`.
pub fn shape_settings(spec: &EnvSpec) -> Vec<(String, Value)> {
    let count = |n: usize| Value::Integer(i64::try_from(n).expect("a dimension is small"));
    let bounds =
        |bounds: &[f32]| Value::Array(bounds.iter().map(|&b| Value::Float(shortest(b))).collect());
    let actions = match spec.actions {
        ActionKind::Continuous => "continuous",
        ActionKind::Discrete => "discrete",
    };
    let image = spec.obs_image.map(|image| image.map(count).to_vec()).unwrap_or_default();
    [
        ("obs_dim", count(spec.obs_dim)),
        ("obs_image", Value::Array(image)),
        ("actions", Value::String(actions.into())),
        ("act_dim", count(spec.act_dim)),
        ("action_low", bounds(&spec.action_low)),
        ("action_high", bounds(&spec.action_high)),
    ]
    .map(|(key, value)| (format!("cluster.{key}"), value))
    .into()
}

/// Returns the number with the fewest digits that rounds to this f32.
fn shortest(single: f32) -> f64 {
    single.to_string().parse().expect("digits of a number")
}
