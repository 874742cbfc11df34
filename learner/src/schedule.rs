//! Schedules of step sizes. A step size is constant, or it decays linearly or exponentially. It changes after every
//! update or after every epoch (docs/algorithms/shared.md §8).

use crate::trainer::StepSizes;
use common::config::{Config, LrSchedule};

/// Schedule of one optimiser's step size. Step sizes are f64, because the difference between two consecutive step sizes
/// is too small for f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Form of the decay.
    pub kind: LrSchedule,
    /// Step size of the first update.
    pub initial: f64,
    /// Final step size. It is also the lower bound. Without the bound, a linear schedule would become negative after
    /// its end.
    pub last: f64,
    /// Number of schedule steps. The first one has the step size `initial`, and the last one has `last`. At least 1.
    /// May be fractional.
    pub steps: f64,
    /// Number of updates per schedule step: 1, or the number of updates in an epoch.
    pub updates_per_step: u64,
}

impl Schedule {
    /// Creates a schedule whose step size never changes.
    pub fn constant(rate: f64) -> Self {
        let kind = LrSchedule::Constant;
        Self { kind, initial: rate, last: rate, steps: 1.0, updates_per_step: 1 }
    }

    /// Returns the step size of the next update, where `updates` is the number of updates already done.
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

/// Schedules of all optimisers.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSchedules {
    actor: Schedule,
    critic: Schedule,
    alpha: Schedule,
    lambda: Schedule,
    vae: Schedule,
}

impl StepSchedules {
    /// Creates the configured schedules. All optimisers have the same form of decay, but each optimiser has its own
    /// initial and final step size.
    pub fn new(config: &Config) -> Self {
        let (training, lac, bcq) = (&config.training, &config.lac, &config.bcq);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 updates")]
        let steps = training.lr_schedule_steps as f64;
        let schedule = |rate: f64, last: f64| {
            let constant = Schedule::constant(rate);
            if training.lr_schedule == LrSchedule::Constant {
                return constant;
            }
            let updates_per_step = training.lr_schedule_updates;
            let kind = training.lr_schedule;
            Schedule { kind, last, steps, updates_per_step, ..constant }
        };
        Self {
            actor: schedule(training.lr_actor, training.lr_actor_final),
            critic: schedule(training.lr_critic, training.lr_critic_final),
            alpha: schedule(training.lr_alpha, training.lr_alpha_final),
            lambda: schedule(lac.lr_lambda, lac.lr_lambda_final),
            vae: schedule(bcq.lr_vae, bcq.lr_vae_final),
        }
    }

    /// Returns the step sizes of the next update, where `updates` is the number of updates already done.
    pub fn at(&self, updates: u64) -> StepSizes {
        StepSizes {
            actor: self.actor.rate(updates),
            critic: self.critic.rate(updates),
            alpha: self.alpha.rate(updates),
            lambda: self.lambda.rate(updates),
            vae: self.vae.rate(updates),
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
