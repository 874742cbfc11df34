//! Rules against contradictions: settings that are valid by themselves but do not work together.

use super::rule::{Rule, expect};
use super::{
    ActionUnits, AlgorithmKind, BackendKind, Config, ConfigError, Cost, ExplorationKind,
    NetworkKind, Resolved, Sigma,
};
use crate::limits;
use crate::policy::arch::ArchError;
use crate::spec::ActionKind;
use std::time::Duration;

/// Smallest value of `actor.policy_age_max` other than 0. The learner republishes its weights only once per second.
/// With a lower limit, an actor would often find its weights too old and could not act.
const POLICY_AGE_LEAST: Duration = Duration::from_secs(2);

/// Returns the rules that can be checked now. Rules that need a shape of the environment are included only if the
/// configuration sets that shape.
pub(super) fn rules(c: &Config) -> Vec<Rule> {
    [sizes(c), length(c), actors(c), discrete(c), images(c), memory(c), algorithm(c), backend(c)]
        .concat()
}

/// Returns the rules for sizes that limit each other.
fn sizes(c: &Config) -> Vec<Rule> {
    let shards = c.shards_total().max(1);
    let capacity = c.replay.capacity;
    vec![
        (
            c.training.batch_size <= capacity,
            "learner.batch_size",
            format!("must not be larger than replay.capacity = {capacity}"),
        ),
        (
            usize::try_from(c.replay.min_size).is_ok_and(|min| min <= capacity),
            "replay.min_size",
            format!("must not be larger than replay.capacity = {capacity}"),
        ),
        (
            shards <= limits::SHARDS_MAX,
            "replay.shards",
            format!("must give at most {} shards in all", limits::SHARDS_MAX),
        ),
        (
            capacity / shards >= c.actor.insert_rows,
            "replay.capacity",
            format!(
                "must hold actor.insert_rows = {} rows in each of {shards} shards",
                c.actor.insert_rows
            ),
        ),
        (
            capacity / shards <= limits::SHARD_ROWS_MAX,
            "replay.capacity",
            format!("must be at most {} rows per shard", limits::SHARD_ROWS_MAX),
        ),
        (
            c.cluster.cost_horizon <= capacity / shards,
            "cluster.cost_horizon",
            format!("must not be longer than the buffer: {} rows per shard", capacity / shards),
        ),
        (
            c.actor.spool_rows >= c.actor.insert_rows,
            "actor.spool_rows",
            format!(
                "must hold at least one insert batch, actor.insert_rows = {}",
                c.actor.insert_rows
            ),
        ),
    ]
}

/// Returns the rules that refuse a run which would end before it has learnt anything.
fn length(c: &Config) -> Vec<Rule> {
    let steps = c.run.env_steps;
    if steps == 0 || c.is_offline() {
        return Vec::new();
    }
    let min_size = c.replay.min_size;
    let (actors, warmup) = (u64::from(c.run.actors), c.actor.warmup_steps);
    let random = actors.saturating_mul(warmup);
    vec![
        (
            steps >= min_size,
            "run.env_steps",
            format!(
                "must be at least {min_size} (or 0, no limit): no update comes before replay.min_size = {min_size} \
                 rows, and a step brings one at most"
            ),
        ),
        (
            steps > random || !c.actor.record.is_empty(),
            "run.env_steps",
            format!(
                "must be above {random} (or 0, no limit): run.actors = {actors} act at random for \
                 actor.warmup_steps = {warmup} steps each"
            ),
        ),
    ]
}

/// Returns the rules for the noise and the policy age of actors.
fn actors(c: &Config) -> Vec<Rule> {
    let (theta, dt, patience) = (c.actor.ou_theta, c.actor.ou_dt, c.actor.policy_age_max);
    vec![
        (
            c.actor.exploration != ExplorationKind::Ou || theta * dt <= 2.0,
            "actor.ou_dt",
            format!(
                "must be at most {} where actor.ou_theta = {theta}: beyond that the noise grows without end",
                2.0 / theta
            ),
        ),
        (
            patience.is_zero() || patience >= POLICY_AGE_LEAST,
            "actor.policy_age_max",
            expect("must be 0s or at least 2s: weights are repeated once a second"),
        ),
    ]
}

/// Returns the rules for discrete actions, which have neither a standard deviation nor units.
fn discrete(c: &Config) -> Vec<Rule> {
    if c.cluster.actions != ActionKind::Discrete {
        return Vec::new();
    }
    let with = |what: &str| format!("must be {what}: cluster.actions is discrete");
    vec![
        (c.learner.algorithm == AlgorithmKind::Sac, "learner.algorithm", with("sac")),
        (c.actor.exploration == ExplorationKind::None, "actor.exploration", with("none")),
        (c.cluster.sigma == Sigma::Conditioned, "cluster.sigma", with("conditioned (unused)")),
        (c.cluster.mean_bound == 0.0, "cluster.mean_bound", with("0")),
        (
            c.training.critic_action_units == ActionUnits::Normalised,
            "learner.critic_action_units",
            with("normalised (unused)"),
        ),
        (
            c.training.log_prob_units == ActionUnits::Normalised,
            "learner.log_prob_units",
            with("normalised (unused)"),
        ),
    ]
}

/// Returns the rules for images. Convolutions need an image, and images are not normalised by statistics. Returns no
/// rules if the shapes are not set.
fn images(c: &Config) -> Vec<Rule> {
    if c.cluster.obs_dim == 0 {
        return Vec::new();
    }
    let image = !c.cluster.obs_image.is_empty();
    let expected =
        expect("must be another than cnn: cluster.obs_image is empty, nothing is an image");
    vec![
        (image || c.cluster.network != NetworkKind::Cnn, "cluster.network", expected.clone()),
        (image || c.learner.critic_network != NetworkKind::Cnn, "learner.critic_network", expected),
        (
            !(image && c.cluster.normalise_obs),
            "cluster.normalise_obs",
            expect("must be false: bytes of an image are divided by 255 instead"),
        ),
    ]
}

/// Returns the rules for policies with a memory. Only such policies train on sequences. They do not support n-step
/// returns.
fn memory(c: &Config) -> Vec<Rule> {
    let recurrent = matches!(
        c.cluster.network,
        NetworkKind::Lstm | NetworkKind::Liquid | NetworkKind::Cfc | NetworkKind::WiredCfc
    );
    vec![
        (
            recurrent || c.cluster.sequence_len == 1,
            "cluster.sequence_len",
            expect(
                "must be 1: cluster.network has no memory (lstm, liquid, cfc and wired-cfc have)",
            ),
        ),
        (
            !recurrent || c.cluster.n_step == 1,
            "cluster.n_step",
            expect("must be 1: cluster.network has a memory, its states are of single steps"),
        ),
    ]
}

/// Returns the rules for settings whose valid values depend on the algorithm.
fn algorithm(c: &Config) -> Vec<Rule> {
    let (lac, bcq) = (AlgorithmKind::Lac, AlgorithmKind::Bcq);
    let is = c.learner.algorithm;
    let plain = |network| network == NetworkKind::Mlp;
    let (policy, critic) = (c.cluster.network, c.learner.critic_network);
    let mlp = expect("must be mlp where learner.algorithm is bcq");
    let below_max = c.lac.cost == Cost::BelowMax;
    vec![
        (
            is == lac || c.training.critics == 2,
            "learner.critics",
            expect("must be 2: only learner.algorithm = lac can do with 1"),
        ),
        (
            is == lac || c.cluster.cost_horizon == 0,
            "cluster.cost_horizon",
            expect("must be 0: only learner.algorithm = lac sums costs"),
        ),
        (
            is != lac || !below_max || c.cluster.n_step == 1,
            "cluster.n_step",
            expect("must be 1 where lac.cost is below-max: a sum of rewards does not tell each"),
        ),
        (
            is != lac || !below_max || c.cluster.cost_horizon == 0,
            "cluster.cost_horizon",
            expect("must be 0 where lac.cost is below-max: a sum of rewards does not tell each"),
        ),
        (
            is != lac || plain(critic),
            "learner.critic_network",
            expect("must be mlp where learner.algorithm is lac"),
        ),
        (
            is != bcq || !c.offline.dataset.is_empty(),
            "offline.dataset",
            expect("must name recorded data where learner.algorithm is bcq (--dataset PATH)"),
        ),
        (is != bcq || plain(policy), "cluster.network", mlp.clone()),
        (is != bcq || plain(critic), "learner.critic_network", mlp),
        (
            is != bcq || !c.cluster.layer_norm,
            "cluster.layer_norm",
            expect("must be false where learner.algorithm is bcq"),
        ),
        (
            is != bcq || c.training.critic_action_units == ActionUnits::Normalised,
            "learner.critic_action_units",
            expect(
                "must be normalised where learner.algorithm is bcq: actors choose by its critic",
            ),
        ),
        (
            is != bcq || c.cluster.mean_bound == 0.0,
            "cluster.mean_bound",
            expect("must be 0 where learner.algorithm is bcq: it has no Gaussian"),
        ),
        (
            is != bcq || c.actor.exploration == ExplorationKind::None,
            "actor.exploration",
            expect("must be none where learner.algorithm is bcq: it draws by its auto-encoder"),
        ),
    ]
}

/// Returns the rules for the native backend: its device, its algorithm and its networks. When the learner builds its
/// trainer, it also refuses every other setting that this backend does not support.
fn backend(c: &Config) -> Vec<Rule> {
    let native = c.learner.backend == BackendKind::Native;
    let torch = |what: &str| format!("needs learner.backend = torch: {what}");
    vec![
        (
            !native || c.learner.device == "cpu",
            "learner.device",
            expect("the native backend runs on the cpu; use learner.backend = torch for cuda"),
        ),
        (
            !native || c.learner.algorithm == AlgorithmKind::Sac,
            "learner.algorithm",
            torch("the native backend trains sac only"),
        ),
        (
            !native || c.cluster.network == NetworkKind::Mlp,
            "cluster.network",
            torch("the native backend trains perceptrons only"),
        ),
        (
            !native || c.learner.critic_network == NetworkKind::Mlp,
            "learner.critic_network",
            torch("the native backend trains perceptrons only"),
        ),
    ]
}

/// Checks that the policy network can be built, and that rows and batches are within their size limits. Checks nothing
/// if the shapes are not set.
pub(super) fn shapes(resolved: &Resolved) -> Result<(), ConfigError> {
    // Errors in the shapes themselves are reported by the code that needs the shapes.
    let Ok(spec) = resolved.env_spec() else { return Ok(()) };
    let config = &resolved.config;
    config.policy_arch(&spec).validate().map_err(|error| {
        let key = match error {
            ArchError::Neurons { .. } => "cluster.neurons",
            ArchError::Parameters { .. } => "cluster.hidden",
            _ => "cluster.network",
        };
        resolved.invalid(key, error.to_string())
    })?;
    let row = config.item_layout(&spec).row_bytes;
    if row > limits::ROW_BYTES_MAX {
        let long = config.cluster.sequence_len > 1;
        let key = if long { "cluster.sequence_len" } else { "cluster.obs_dim" };
        let expected = format!("gives rows of {row} bytes, at most {}", limits::ROW_BYTES_MAX);
        return Err(resolved.invalid(key, expected));
    }
    let most = limits::FRAME_BYTES_MAX / row;
    if config.training.batch_size > most {
        let expected = format!("must be at most {most}: {row} bytes each, in one frame");
        return Err(resolved.invalid("learner.batch_size", expected));
    }
    Ok(())
}
