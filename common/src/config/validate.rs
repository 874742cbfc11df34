//! Ranges and contradictions: what no process should start with. Each refusal names a key and what would be valid.

use super::{BackendKind, Config, ConfigError, Resolved};
use crate::limits;

/// Checks everything that can be known before any socket is opened.
///
/// The rate limiter's own rule (an `error_buffer` too small to make progress) is checked where the limiter is built,
/// from the same values: see `replay-server`.
pub(super) fn check(resolved: &Resolved) -> Result<(), ConfigError> {
    let rules = ranges(&resolved.config).into_iter().chain(contradictions(&resolved.config));
    for (holds, key, expected) in rules {
        if !holds {
            return Err(resolved.invalid(key, expected));
        }
    }
    Ok(())
}

type Rule = (bool, &'static str, String);

fn ranges(config: &Config) -> Vec<Rule> {
    [run(config), replay(config), actors(config), learner(config)].concat()
}

fn unit(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

fn positive(x: f32) -> bool {
    x > 0.0 && x.is_finite()
}

fn widths(widths: &[usize]) -> bool {
    (1..=8).contains(&widths.len()) && widths.iter().all(|&width| (1..=16_384).contains(&width))
}

fn expect(text: &str) -> String {
    text.to_owned()
}

fn run(c: &Config) -> Vec<Rule> {
    vec![
        (unit(c.cluster.gamma), "cluster.gamma", expect("must be in [0, 1]")),
        ((1..=64).contains(&c.cluster.n_step), "cluster.n_step", expect("must be in 1..=64")),
        (
            widths(&c.cluster.hidden),
            "cluster.hidden",
            expect("must be 1 to 8 widths of 1 to 16384"),
        ),
        (
            c.cluster.log_std_min.is_finite() && c.cluster.log_std_min < c.cluster.log_std_max,
            "cluster.log_std_min",
            expect("must be finite and below cluster.log_std_max"),
        ),
        (c.cluster.log_std_max <= 20.0, "cluster.log_std_max", expect("must be at most 20")),
        (
            !c.endpoints.replay.is_empty(),
            "endpoints.replay",
            expect("must name at least one server"),
        ),
        (
            !c.run.target_return.is_nan(),
            "run.target_return",
            expect("must be a number, or inf for never"),
        ),
        ((1..=1024).contains(&c.run.actors), "run.actors", expect("must be in 1..=1024")),
    ]
}

fn replay(c: &Config) -> Vec<Rule> {
    vec![
        ((1..=256).contains(&c.replay.shards), "replay.shards", expect("must be in 1..=256")),
        (unit(c.replay.priority_alpha), "replay.priority_alpha", expect("must be in [0, 1]")),
        (
            c.replay.priority_epsilon > 0.0 && c.replay.priority_epsilon.is_finite(),
            "replay.priority_epsilon",
            expect("must be above 0: an item of priority 0 would never be seen again"),
        ),
        (c.replay.min_size >= 1, "replay.min_size", expect("must be at least 1")),
        (
            c.replay.samples_per_insert >= 0.0 && c.replay.samples_per_insert.is_finite(),
            "replay.samples_per_insert",
            expect("must be 0 (no limit) or above"),
        ),
        (
            c.replay.error_buffer >= 0.0 && c.replay.error_buffer.is_finite(),
            "replay.error_buffer",
            expect("must be 0 (chosen for you) or above"),
        ),
    ]
}

fn actors(c: &Config) -> Vec<Rule> {
    vec![
        ((1..=4096).contains(&c.actor.lanes), "actor.lanes", expect("must be in 1..=4096")),
        (
            (1..=limits::INSERT_ROWS_MAX).contains(&c.actor.insert_rows),
            "actor.insert_rows",
            format!("must be in 1..={}", limits::INSERT_ROWS_MAX),
        ),
        (
            (1..=limits::INSERT_WINDOW_MAX).contains(&c.actor.window),
            "actor.window",
            format!("must be in 1..={}", limits::INSERT_WINDOW_MAX),
        ),
        (c.evaluator.episodes >= 1, "evaluator.episodes", expect("must be at least 1")),
        (c.evaluator.final_episodes >= 1, "evaluator.final_episodes", expect("must be at least 1")),
    ]
}

fn learner(c: &Config) -> Vec<Rule> {
    vec![
        (c.learner.threads <= 64, "learner.threads", expect("must be in 0..=64")),
        (
            (1..=limits::SAMPLE_ITEMS_MAX).contains(&c.learner.batch_size),
            "learner.batch_size",
            format!("must be in 1..={}", limits::SAMPLE_ITEMS_MAX),
        ),
        (
            widths(&c.learner.critic_hidden),
            "learner.critic_hidden",
            expect("must be 1 to 8 widths of 1 to 16384"),
        ),
        (positive(c.learner.lr_actor), "learner.lr_actor", expect("must be above 0")),
        (positive(c.learner.lr_critic), "learner.lr_critic", expect("must be above 0")),
        (positive(c.learner.lr_alpha), "learner.lr_alpha", expect("must be above 0")),
        (
            positive(c.learner.critic_loss_factor),
            "learner.critic_loss_factor",
            expect("must be above 0"),
        ),
        (positive(c.learner.adam_eps), "learner.adam_eps", expect("must be above 0")),
        (
            positive(c.learner.tau) && c.learner.tau <= 1.0,
            "learner.tau",
            expect("must be in (0, 1]"),
        ),
        (
            positive(c.learner.alpha_init),
            "learner.alpha_init",
            expect("must be above 0: its logarithm is what is kept"),
        ),
        (
            c.learner.target_entropy_per_dim.is_finite(),
            "learner.target_entropy_per_dim",
            expect("must be finite"),
        ),
        (unit(c.learner.importance_beta), "learner.importance_beta", expect("must be in [0, 1]")),
        (
            (1..=64).contains(&c.learner.prefetch_batches),
            "learner.prefetch_batches",
            expect("must be in 1..=64"),
        ),
        (c.learner.publish_updates >= 1, "learner.publish_updates", expect("must be at least 1")),
        (
            c.learner.checkpoint_updates >= 1,
            "learner.checkpoint_updates",
            expect("must be at least 1"),
        ),
        (c.learner.checkpoint_keep >= 1, "learner.checkpoint_keep", expect("must be at least 1")),
        (c.learner.log_updates >= 1, "learner.log_updates", expect("must be at least 1")),
        (
            device_is_well_formed(&c.learner.device),
            "learner.device",
            expect("must be cpu or cuda:N"),
        ),
    ]
}

fn contradictions(c: &Config) -> Vec<Rule> {
    let shards = c.shards_total().max(1);
    vec![
        (
            c.learner.batch_size <= c.replay.capacity,
            "learner.batch_size",
            format!("must not be larger than replay.capacity = {}", c.replay.capacity),
        ),
        (
            usize::try_from(c.replay.min_size).is_ok_and(|min| min <= c.replay.capacity),
            "replay.min_size",
            format!("must not be larger than replay.capacity = {}", c.replay.capacity),
        ),
        (
            shards <= limits::SHARDS_MAX,
            "replay.shards",
            format!("must give at most {} shards in all", limits::SHARDS_MAX),
        ),
        (
            c.replay.capacity / shards >= c.actor.insert_rows,
            "replay.capacity",
            format!(
                "must hold actor.insert_rows = {} rows in each of {shards} shards",
                c.actor.insert_rows
            ),
        ),
        (
            c.replay.capacity / shards <= limits::SHARD_ROWS_MAX,
            "replay.capacity",
            format!("must be at most {} rows per shard", limits::SHARD_ROWS_MAX),
        ),
        (
            c.actor.spool_rows >= c.actor.insert_rows,
            "actor.spool_rows",
            format!(
                "must hold at least one insert batch, actor.insert_rows = {}",
                c.actor.insert_rows
            ),
        ),
        (
            c.learner.backend != BackendKind::Native || c.learner.device == "cpu",
            "learner.device",
            "the native backend runs on the cpu; use learner.backend = torch for cuda".to_owned(),
        ),
    ]
}

fn device_is_well_formed(device: &str) -> bool {
    device == "cpu" || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok())
}
