//! Step sizes over time: constant, linear or exponential, by update or by epoch (SEED-SPEC §§4.9, 7.7).

use crate::trainer::StepSizes;
use common::config::{Config, LrSchedule};

/// How one optimiser's step size changes. In f64: the differences are far below an f32's digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How it falls.
    pub kind: LrSchedule,
    /// At the start.
    pub initial: f64,
    /// At the end, and never below: a linear schedule that goes on stays there instead of going negative.
    pub last: f64,
    /// Steps of the schedule from the first rate to the last one, both counted; at least 1. May be fractional.
    pub steps: f64,
    /// Updates of one step: 1, or an epoch's.
    pub updates_per_step: u64,
}

impl Schedule {
    /// The rate that never changes.
    pub fn constant(rate: f64) -> Self {
        let kind = LrSchedule::Constant;
        Self { kind, initial: rate, last: rate, steps: 1.0, updates_per_step: 1 }
    }

    /// The rate of the next update after so many.
    pub fn rate(&self, updates: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 updates")]
        let k = (updates / self.updates_per_step) as f64;
        let (ratio, intervals) = (self.last / self.initial, (self.steps - 1.0).max(1.0));
        let rate = match self.kind {
            LrSchedule::Constant => return self.initial,
            LrSchedule::Linear => self.initial * (1.0 - k * (1.0 - ratio) / intervals),
            LrSchedule::Exponential => self.initial * ratio.powf(k / intervals),
        };
        rate.max(self.last)
    }
}

/// Every optimiser's schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSchedules {
    actor: Schedule,
    critic: Schedule,
    alpha: Schedule,
    lambda: Schedule,
    vae: Schedule,
}

impl StepSchedules {
    /// As configured: the optimisers share the law, each has rates of its own.
    pub fn new(config: &Config) -> Self {
        let (learner, lac, bcq) = (&config.learner, &config.lac, &config.bcq);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 updates")]
        let steps = learner.lr_schedule_steps as f64;
        let schedule = |rate: f32, last: f32| {
            let constant = Schedule::constant(f64::from(rate));
            if learner.lr_schedule == LrSchedule::Constant {
                return constant;
            }
            let updates_per_step = learner.lr_schedule_updates;
            let (kind, last) = (learner.lr_schedule, f64::from(last));
            Schedule { kind, last, steps, updates_per_step, ..constant }
        };
        Self {
            actor: schedule(learner.lr_actor, learner.lr_actor_final),
            critic: schedule(learner.lr_critic, learner.lr_critic_final),
            alpha: schedule(learner.lr_alpha, learner.lr_alpha_final),
            lambda: schedule(lac.lr_lambda, lac.lr_lambda_final),
            vae: schedule(bcq.lr_vae, bcq.lr_vae_final),
        }
    }

    /// The step sizes of the next update after so many.
    pub fn at(&self, updates: u64) -> StepSizes {
        #[expect(clippy::cast_possible_truncation, reason = "step sizes are f32")]
        let rate = |schedule: &Schedule| schedule.rate(updates) as f32;
        StepSizes {
            actor: rate(&self.actor),
            critic: rate(&self.critic),
            alpha: rate(&self.alpha),
            lambda: rate(&self.lambda),
            vae: rate(&self.vae),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Layers, load};

    fn at(updates: u64, set: &[&str]) -> StepSizes {
        let set = set.iter().map(ToString::to_string).collect();
        let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
        StepSchedules::new(&resolved.config).at(updates)
    }

    #[test]
    fn a_linear_schedule_may_end_at_zero_and_one_without_a_fall_keeps_its_rate() {
        let set = [
            "learner.lr_schedule=linear",
            "learner.lr_schedule_steps=11",
            "learner.lr_critic=1e-3",
            "learner.lr_critic_final=1e-3",
            "learner.lr_actor=1e-3",
        ];
        let [start, half, end, after] = [0, 5, 10, 99].map(|updates| at(updates, &set));
        assert_eq!([start.actor, half.actor, end.actor, after.actor], [1e-3, 5e-4, 0.0, 0.0]);
        assert_eq!([start.critic, half.critic, end.critic, after.critic], [1e-3; 4]);
    }

    #[test]
    fn constant_rates_have_no_end() {
        let sizes = at(1_000_000, &["learner.lr_actor=1e-3", "learner.lr_actor_final=1e-5"]);
        assert!((sizes.actor - 1e-3).abs() < 1e-9, "{sizes:?}");
    }
}
