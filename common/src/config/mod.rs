//! The configuration: TOML in layers. Every value keeps its origin.
//!
//! - This file: the sections as types, and values derived from several sections.
//! - [`load`](self::load()): merges the layers. `resolved`: the result. `error`: the reasons for refusal.
//! - `presets`: named starting points.
//! - `validate`, `wrappers`: ranges. `compat`: contradictions. Each is a table of `rule`s.
//! - `replay_memory`: checks that depend on the machine's memory. `hint`: suggestions for misspelled names.
//! - `endpoints`: addresses of the processes. [`known_shapes`]: shapes of native environments by name.
//! - `change`, `port`, [`watch`]: settings that change while a learner trains. `resume`: settings of a resumed run.
//!
//! `config/default.toml` is embedded. It documents every key and holds the default of the key. `docs/configuration.md`
//! is generated from `config/default.toml`.

mod actor_id;
mod algorithms;
mod change;
mod compat;
mod endpoints;
mod error;
mod hint;
mod load;
mod port;
mod presets;
mod replay_memory;
mod resolved;
mod resume;
mod rule;
mod shapes;
mod training;
mod validate;
pub mod watch;
mod wrappers;

pub use actor_id::ActorNumber;
pub use change::{Change, LIVE_KEYS};
pub use error::{ConfigError, Origin};
pub use load::{Layers, RUN_FILE, load};
pub use port::{ApplyError, ConfigChange, ConfigPort};
pub use presets::{PRESETS, Preset};
pub use resolved::Resolved;
pub use resume::FIXED_KEYS;
pub use shapes::{known_envs, known_shapes, option_changes_shapes, shape_settings};
pub use training::TrainingConfig;
pub use wrappers::Wrapper;

pub use algorithms::*;

use crate::policy::arch::{
    Activation, BackboneActivation, Body, CfcMode, Conv, Head, LastLayers, LogStd, Mlp, PolicyArch,
};
use crate::spec::{ActionKind, EnvSpec, ItemLayout, digest64};
use crate::telemetry::logs::LogFormat;
use crate::tls;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The embedded default file, which is the reference of every key.
pub const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// Settings tuned for one environment, as (environment, TOML). They override the defaults; the user's file overrides
/// them.
pub(crate) const TUNED: &[(&str, &str)] = &[
    ("CartPole-v1", include_str!("../../../config/tuned/CartPole-v1.toml")),
    ("Pendulum-v1", include_str!("../../../config/tuned/Pendulum-v1.toml")),
];

/// All settings of all processes. Keys are documented in `config/default.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct Config {
    pub cluster: ClusterConfig,
    pub endpoints: EndpointsConfig,
    pub run: RunConfig,
    pub replay: ReplayConfig,
    pub actor: ActorConfig,
    pub evaluator: EvaluatorConfig,
    pub learner: LearnerConfig,
    /// In TOML these settings are in the section `[learner]`.
    pub training: TrainingConfig,
    pub lac: LacConfig,
    pub bcq: BcqConfig,
    pub offline: OfflineConfig,
    pub telemetry: TelemetryConfig,
    pub tls: tls::Paths,
}

/// Settings on which every process of a run must agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct ClusterConfig {
    pub env: String,
    pub env_params: Vec<String>,
    pub obs_dim: usize,
    pub act_dim: usize,
    pub action_low: Vec<f32>,
    pub action_high: Vec<f32>,
    pub actions: ActionKind,
    pub obs_image: Vec<usize>,
    pub wrappers: Vec<Wrapper>,
    pub time_limit: u32,
    pub action_repeat: u32,
    pub frame_stack: usize,
    pub reward_scale: f64,
    pub reward_clip: [f64; 2],
    pub action_rescale: [f32; 2],
    pub obs_delay: usize,
    pub action_noise: f32,
    pub action_noise_eval: bool,
    pub gamma: f64,
    pub n_step: usize,
    pub truncation_bootstrap: bool,
    pub network: NetworkKind,
    pub hidden: Vec<usize>,
    pub activation: Activation,
    pub head_hidden: Vec<usize>,
    pub head_activation: Activation,
    pub layer_norm: bool,
    pub lstm_layers: usize,
    pub neurons: usize,
    pub cfc_mode: CfcMode,
    pub cfc_activation: BackboneActivation,
    pub wiring_seed: u64,
    pub sigma: Sigma,
    pub log_std_min: f32,
    pub log_std_max: f32,
    pub mean_bound: f32,
    pub normalise_obs: bool,
    pub obs_clip: f32,
    pub sequence_len: usize,
    pub burn_in: usize,
    pub cost_horizon: usize,
}

/// Addresses of the processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct EndpointsConfig {
    pub replay: Vec<String>,
    pub weights: String,
    pub bind: String,
}

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct RunConfig {
    pub name: String,
    pub seed: u64,
    pub env_steps: u64,
    pub target_return: f64,
    pub actors: u32,
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    pub when_done: WhenDone,
    pub save_replay: bool,
    pub track_metrics: bool,
    pub track_trajectories: bool,
}

/// Action of a learner when its run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDone {
    /// Exit the process.
    Exit,
    /// Continue to publish the last weights until the process is stopped.
    Wait,
}

/// Method by which a table selects items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectorKind {
    /// Probability in proportion to priority.
    Prioritized,
    /// Equal probability for all items.
    Uniform,
}

/// Events that the rows of a replay server survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// No event. The rows are lost when the process ends.
    None,
    /// The end of the process, also by SIGKILL.
    Process,
    /// The end of the process and the end of the machine, except for rows inserted shortly before the machine ended.
    Disk,
}

/// The replay servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct ReplayConfig {
    pub shards: usize,
    pub capacity: usize,
    pub selector: SelectorKind,
    pub priority_exponent: f64,
    pub priority_epsilon: f64,
    pub min_size: u64,
    pub samples_per_insert: f64,
    pub error_buffer: f64,
    pub durability: Durability,
    #[serde(with = "humantime_serde")]
    pub sync_interval: Duration,
}

/// Actors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct ActorConfig {
    pub id: ActorNumber,
    pub num_envs: usize,
    pub warmup_steps: u64,
    pub insert_rows: usize,
    pub window: u32,
    pub spool_rows: usize,
    #[serde(with = "humantime_serde")]
    pub policy_age_max: Duration,
    pub exploration: ExplorationKind,
    pub exploration_sigma: f32,
    pub ou_theta: f32,
    pub ou_dt: f32,
    pub record: String,
    #[serde(with = "humantime_serde")]
    pub step_deadline: Duration,
    pub python: String,
    #[serde(with = "humantime_serde")]
    pub close_deadline: Duration,
}

/// Evaluation with deterministic actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct EvaluatorConfig {
    pub episodes: usize,
    pub final_episodes: usize,
    pub steps_max: u64,
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    pub interval_steps: u64,
}

/// Implementation of the learner's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Native if it supports the settings, else torch.
    Auto,
    /// Plain Rust on the CPU.
    Native,
    /// libtorch.
    Torch,
}

/// The learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct LearnerConfig {
    pub backend: BackendKind,
    pub device: String,
    pub threads: usize,
    pub algorithm: AlgorithmKind,
    pub critic_network: NetworkKind,
    pub critic_hidden: Vec<usize>,
    pub critic_head_hidden: Vec<usize>,
    pub critic_neurons: usize,
    pub critic_join: Join,
    pub importance_sampling_exponent: f64,
    pub prefetch_batches: usize,
    pub publish_updates: u64,
    pub checkpoint_updates: u64,
    pub checkpoint_keep: usize,
    pub checkpoint_contents: Vec<String>,
    pub watch: String,
    pub updates_max: u64,
    pub on_divergence: OnDivergence,
    pub log_updates: u64,
}

/// Logs and the admin port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct TelemetryConfig {
    pub admin: String,
    pub admin_writes: bool,
    pub admin_token_file: String,
    pub log_format: LogFormat,
    pub log_filter: String,
}

/// The convolutions of the nature-CNN (Mnih et al. 2015), for images of at least 36 by 36.
const NATURE_CNN: [Conv; 3] = [
    Conv { filters: 32, kernel: 8, stride: 4 },
    Conv { filters: 64, kernel: 4, stride: 2 },
    Conv { filters: 64, kernel: 3, stride: 1 },
];

/// The convolutions for smaller images, down to 8 by 8.
const SMALL_CNN: [Conv; 2] =
    [Conv { filters: 16, kernel: 3, stride: 2 }, Conv { filters: 32, kernel: 3, stride: 1 }];

impl Config {
    /// Returns a network body of the kind `network`. `hidden` and `head` are the layer widths of the trunk and of the
    /// head. Only wired bodies use `neurons`.
    pub fn body(
        &self,
        network: NetworkKind,
        [hidden, head]: [&[usize]; 2],
        neurons: usize,
        spec: &EnvSpec,
    ) -> Body {
        let c = &self.cluster;
        let activation = c.head_activation;
        let mlp = Mlp {
            hidden: [hidden, head].concat(),
            activation: c.activation,
            layer_norm: c.layer_norm,
            last: (!head.is_empty()).then_some(LastLayers { count: head.len(), activation }),
        };
        let wiring_seed = c.wiring_seed;
        match network {
            NetworkKind::Mlp => Body::Mlp(mlp),
            NetworkKind::Cnn => {
                let image = spec.obs_image.unwrap_or([1, 1, spec.obs_dim]);
                let large = image[1].min(image[2]) >= 36;
                let convs = if large { NATURE_CNN.to_vec() } else { SMALL_CNN.to_vec() };
                Body::Cnn { image, convs, dense: mlp }
            }
            NetworkKind::Lstm => Body::Lstm { layers: c.lstm_layers, hidden: hidden[0] },
            NetworkKind::Liquid => Body::Liquid { neurons, wiring_seed },
            NetworkKind::Ncp => Body::Ncp { neurons, wiring_seed },
            NetworkKind::Cfc => Body::Cfc {
                hidden: hidden[0],
                mode: c.cfc_mode,
                backbone: hidden[1..].to_vec(),
                activation: c.cfc_activation,
                mixed_memory: false,
            },
            NetworkKind::WiredCfc => {
                Body::WiredCfc { units: neurons, mode: c.cfc_mode, wiring_seed }
            }
        }
    }

    /// Returns the body that acts in batch-constrained Q-learning. The perturbation network has the layer widths
    /// `cluster.hidden`.
    fn batch_constrained(&self, spec: &EnvSpec) -> Body {
        let mlp = |hidden: &[usize]| Mlp {
            hidden: hidden.to_vec(),
            activation: self.cluster.activation,
            layer_norm: false,
            last: None,
        };
        let BcqConfig { vae_hidden, vae_latent, phi, act_samples, .. } = &self.bcq;
        Body::BatchConstrained {
            decoder: mlp(vae_hidden),
            perturbation: mlp(&self.cluster.hidden),
            critic: mlp(&self.learner.critic_hidden),
            latent: if *vae_latent == 0 { 2 * spec.act_dim } else { *vae_latent },
            samples: *act_samples,
            phi: *phi,
        }
    }

    /// Returns the architecture of the policy network for an environment of these shapes.
    pub fn policy_arch(&self, spec: &EnvSpec) -> PolicyArch {
        let c = &self.cluster;
        let log_std = match c.sigma {
            Sigma::Conditioned => LogStd::Conditioned { min: c.log_std_min, max: c.log_std_max },
            Sigma::Free => LogStd::Free,
        };
        let mean_bound = (c.mean_bound > 0.0).then_some(c.mean_bound);
        let obs_clip = c.normalise_obs.then_some(c.obs_clip);
        if self.learner.algorithm == AlgorithmKind::Bcq {
            let (body, head) = (self.batch_constrained(spec), Head::Deterministic { bound: 1.0 });
            let (obs_dim, act_dim) = (spec.obs_dim, spec.act_dim);
            return PolicyArch { obs_dim, act_dim, body, head, obs_clip };
        }
        PolicyArch {
            obs_dim: spec.obs_dim,
            act_dim: spec.act_dim,
            body: self.body(c.network, [&c.hidden, &c.head_hidden], c.neurons, spec),
            head: match spec.actions {
                ActionKind::Continuous => Head::Gaussian { log_std, mean_bound },
                ActionKind::Discrete => Head::Categorical,
            },
            obs_clip,
        }
    }

    /// Returns the layout of a replay row for an environment of these shapes.
    pub fn item_layout(&self, spec: &EnvSpec) -> ItemLayout {
        let c = &self.cluster;
        let state_dim = self.policy_arch(spec).state_dim();
        ItemLayout::of(spec, state_dim, c.sequence_len, c.cost_horizon)
    }

    /// Returns whether the run learns from recorded data only, without actors and replay servers.
    pub fn is_offline(&self) -> bool {
        !self.offline.dataset.is_empty() && self.offline.share >= 1.0
    }

    /// Returns whether the environment's reward is a cost, so that low returns are better than high ones.
    pub fn returns_are_costs(&self) -> bool {
        self.learner.algorithm == AlgorithmKind::Lac && self.lac.cost == Cost::Reward
    }

    /// Returns the number of shards over all replay servers.
    pub fn shards_total(&self) -> usize {
        self.endpoints.replay.len() * self.replay.shards
    }

    /// Returns the capacity of one shard in rows.
    pub fn shard_capacity(&self) -> usize {
        self.replay.capacity / self.shards_total()
    }
}

impl ClusterConfig {
    /// Returns one (key, value) pair per setting. Handshakes carry these pairs, so that a refusal can name the
    /// difference.
    pub fn lines(&self) -> Vec<(String, String)> {
        let table =
            toml::Table::try_from(self).expect("a struct of plain values serialises to TOML");
        table
            .into_iter()
            .map(|(key, value)| (format!("cluster.{key}"), value.to_string()))
            .collect()
    }

    /// Returns a digest of all settings. Equal settings have equal digests.
    pub fn hash(&self) -> u64 {
        let lines = self.lines().into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        digest64(lines.collect::<String>().as_bytes())
    }
}
