//! Wrappers of an environment, and the ranges of their settings.

use super::Config;
use super::rule::{Rule, expect};
use crate::values::VALUE_MAX;
use serde::{Deserialize, Serialize};

/// A wrapper of an environment; see `actor_node::env::wrappers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "config/default.toml documents them, once")]
pub enum Wrapper {
    TimeLimit,
    ActionRepeat,
    FrameStack,
    RewardScale,
    RewardClip,
    ObsFlatten,
    ActionRescale,
    ObsDelay,
    ActionNoise,
}

pub(super) fn rules(c: &Config) -> Vec<Rule> {
    let c = &c.cluster;
    let ([clip_low, clip_high], [low, high]) = (c.reward_clip, c.action_rescale);
    let twice = |(i, wrapper)| c.wrappers[..i].contains(wrapper);
    vec![
        (
            !c.wrappers.iter().enumerate().any(twice),
            "cluster.wrappers",
            expect("must name each wrapper once"),
        ),
        (c.time_limit >= 1, "cluster.time_limit", expect("must be at least 1")),
        (
            (1..=1024).contains(&c.action_repeat),
            "cluster.action_repeat",
            expect("must be in 1..=1024"),
        ),
        ((1..=64).contains(&c.frame_stack), "cluster.frame_stack", expect("must be in 1..=64")),
        (
            c.reward_scale.is_normal() && c.reward_scale.abs() <= f64::from(VALUE_MAX),
            "cluster.reward_scale",
            format!("must be a number other than 0, at most {VALUE_MAX:e} in magnitude"),
        ),
        (
            // If a bound is NaN, this comparison is false, so that the setting is refused.
            clip_low < clip_high,
            "cluster.reward_clip",
            expect("must be [low, high] with low below high"),
        ),
        (
            low < high && low.is_finite() && high.is_finite(),
            "cluster.action_rescale",
            expect("must be [low, high], finite, with low below high"),
        ),
        ((0..=1024).contains(&c.obs_delay), "cluster.obs_delay", expect("must be in 0..=1024")),
        (
            c.action_noise >= 0.0 && c.action_noise.is_finite(),
            "cluster.action_noise",
            expect("must be 0 or above"),
        ),
    ]
}
