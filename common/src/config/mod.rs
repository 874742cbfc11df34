//! The configuration: one TOML, layered, every value with its origin.
//!
//! - this file: the sections as types, and what follows from several of them.
//! - [`load`](self::load()): the layers and their errors.
//! - `validate`: ranges and contradictions.
//!
//! `config/default.toml` is embedded; it names, documents and defaults every key. docs/configuration.md is made from it.

mod load;
mod validate;

pub use load::{ConfigError, Layers, Origin, Resolved, load, load_run};

use crate::policy::arch::{Activation, PolicyArch};
use crate::spec::{EnvSpec, digest64};
use crate::telemetry::logs::LogFormat;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The embedded default file: the reference of every key.
pub const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// Settings that suit one environment, between the default and the user's file: (environment, TOML).
pub(crate) const TUNED: &[(&str, &str)] =
    &[("Pendulum-v1", include_str!("../../../config/tuned/Pendulum-v1.toml"))];

/// All settings of all processes. Keys are documented in `config/default.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Config {
    pub cluster: Cluster,
    pub endpoints: Endpoints,
    pub run: Run,
    pub replay: Replay,
    pub actor: Actor,
    pub evaluator: Evaluator,
    pub learner: Learner,
    pub telemetry: Telemetry,
}

/// Settings on which every process of a run must agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Cluster {
    pub env: String,
    pub obs_dim: usize,
    pub act_dim: usize,
    pub action_low: Vec<f32>,
    pub action_high: Vec<f32>,
    pub gamma: f64,
    pub n_step: usize,
    pub hidden: Vec<usize>,
    pub activation: Activation,
    pub log_std_min: f32,
    pub log_std_max: f32,
}

/// Where the processes meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Endpoints {
    pub replay: Vec<String>,
    pub weights: String,
}

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Run {
    pub seed: u64,
    pub env_steps: u64,
    pub target_return: f64,
    pub actors: u32,
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// How a table chooses items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectorKind {
    /// In proportion to priority.
    Prioritized,
    /// All alike.
    Uniform,
}

/// The replay servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Replay {
    pub shards: usize,
    pub capacity: usize,
    pub selector: SelectorKind,
    pub priority_alpha: f64,
    pub priority_epsilon: f64,
    pub min_size: u64,
    pub samples_per_insert: f64,
    pub error_buffer: f64,
}

/// Actors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Actor {
    pub id: u32,
    pub lanes: usize,
    pub warmup_steps: u64,
    pub insert_rows: usize,
    pub window: u32,
    pub spool_rows: usize,
    #[serde(with = "humantime_serde")]
    pub policy_age_max: Duration,
    #[serde(with = "humantime_serde")]
    pub step_deadline: Duration,
}

/// Deterministic evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Evaluator {
    pub episodes: usize,
    pub final_episodes: usize,
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

/// Which arithmetic the learner uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Native where it can serve, else torch.
    Auto,
    /// Plain Rust on the CPU.
    Native,
    /// libtorch.
    Torch,
}

/// Units of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionUnits {
    /// The squashed action in [-1, 1], as it lies in the replay row.
    Normalised,
    /// `action * scale + bias`, the environment's.
    Env,
}

/// How the temperature's loss is written (SEED-SPEC §1.2, switch 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlphaLoss {
    /// -mean(log_alpha * (log_prob + target_entropy))
    Log,
    /// -exp(log_alpha) * mean(log_prob + target_entropy)
    Exp,
}

/// The learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Learner {
    pub backend: BackendKind,
    pub device: String,
    pub threads: usize,
    pub batch_size: usize,
    pub critic_hidden: Vec<usize>,
    pub lr_actor: f32,
    pub lr_critic: f32,
    pub lr_alpha: f32,
    pub adam_eps: f32,
    pub tau: f32,
    pub alpha_auto: bool,
    pub alpha_init: f32,
    pub target_entropy_per_dim: f32,
    pub alpha_loss: AlphaLoss,
    pub critic_loss_factor: f32,
    pub critic_action_units: ActionUnits,
    pub log_prob_units: ActionUnits,
    pub importance_beta: f64,
    pub prefetch_batches: usize,
    pub publish_updates: u64,
    pub checkpoint_updates: u64,
    pub checkpoint_keep: usize,
    pub updates_max: u64,
    pub log_updates: u64,
}

/// Logs and the admin port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Telemetry {
    pub admin: String,
    pub log_format: LogFormat,
    pub log_filter: String,
}

impl Resolved {
    /// The environment's shapes and bounds as configured: what a process without environments knows of them.
    ///
    /// # Errors
    /// They are not set, or do not fit each other.
    pub fn env_spec(&self) -> Result<EnvSpec, ConfigError> {
        let cluster = &self.config.cluster;
        let unset = "must be set: `sapex envs NAME` prints the shapes of an environment";
        if cluster.obs_dim == 0 || cluster.act_dim == 0 {
            let key = if cluster.obs_dim == 0 { "cluster.obs_dim" } else { "cluster.act_dim" };
            return Err(self.invalid(key, unset));
        }
        for (key, bounds) in [
            ("cluster.action_low", &cluster.action_low),
            ("cluster.action_high", &cluster.action_high),
        ] {
            if bounds.len() != cluster.act_dim || bounds.iter().any(|bound| !bound.is_finite()) {
                return Err(
                    self.invalid(key, format!("must be {} finite numbers", cluster.act_dim))
                );
            }
        }
        if cluster.action_low.iter().zip(&cluster.action_high).any(|(low, high)| low >= high) {
            return Err(self.invalid("cluster.action_low", "must be below cluster.action_high"));
        }
        Ok(EnvSpec {
            id: cluster.env.clone(),
            obs_dim: cluster.obs_dim,
            act_dim: cluster.act_dim,
            action_low: cluster.action_low.clone(),
            action_high: cluster.action_high.clone(),
            episode_steps_max: None,
        })
    }
}

impl Config {
    /// The policy network for an environment of these shapes.
    pub fn policy_arch(&self, spec: &EnvSpec) -> PolicyArch {
        PolicyArch {
            obs_dim: spec.obs_dim,
            act_dim: spec.act_dim,
            hidden: self.cluster.hidden.clone(),
            activation: self.cluster.activation,
            log_std_min: self.cluster.log_std_min,
            log_std_max: self.cluster.log_std_max,
        }
    }

    /// Shards over all replay servers.
    pub fn shards_total(&self) -> usize {
        self.endpoints.replay.len() * self.replay.shards
    }

    /// Rows of one shard.
    pub fn shard_capacity(&self) -> usize {
        self.replay.capacity / self.shards_total()
    }
}

impl Cluster {
    /// `key = value` lines, one per setting, as they travel in the handshake so that a refusal can name the difference.
    pub fn lines(&self) -> Vec<(String, String)> {
        let table =
            toml::Table::try_from(self).expect("a struct of plain values serialises to TOML");
        table
            .into_iter()
            .map(|(key, value)| (format!("cluster.{key}"), value.to_string()))
            .collect()
    }

    /// Digest of all settings: equal on two nodes exactly when the settings are.
    pub fn hash(&self) -> u64 {
        let lines = self.lines().into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        digest64(lines.collect::<String>().as_bytes())
    }
}
