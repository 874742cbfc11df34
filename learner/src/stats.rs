//! [`UpdateStats`]: means of the statistics of several updates.

use serde::{Deserialize, Serialize};

/// Means over the updates since the statistics were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct UpdateStats {
    /// Number of updates over which the means are taken.
    pub updates: u64,
    /// Loss of critic 1: factor * mean(w * (Q1 - y)^2), with importance weights w and target values y.
    pub critic1_loss: f64,
    /// Loss of critic 2, with the same formula for Q2. 0 if there is only one critic.
    pub critic2_loss: f64,
    /// Loss of the actor. SAC: mean(alpha * log_prob - min Q).
    pub actor_loss: f64,
    /// Loss of the temperature, in the form that the settings specify. 0 if the temperature is fixed.
    pub alpha_loss: f64,
    /// Temperature used by the updates.
    pub alpha: f64,
    /// Entropy of the policy in nats, or its estimate -mean(log_prob).
    pub entropy: f64,
    /// Mean value of the critics. SAC: mean(min Q(s, a~)).
    pub q_mean: f64,
    /// LAC: multiplier used by the updates.
    pub lambda: f64,
    /// LAC: loss of the multiplier. BCQ: loss of the auto-encoder.
    pub extra_loss: f64,
}

impl UpdateStats {
    /// Merges `other` into these statistics. Afterwards, the means are over the updates of both.
    pub fn merge(&mut self, other: &Self) {
        let updates = self.updates + other.updates;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 updates")]
        let share = other.updates as f64 / updates.max(1) as f64;
        for (mean, new) in [
            (&mut self.critic1_loss, other.critic1_loss),
            (&mut self.critic2_loss, other.critic2_loss),
            (&mut self.actor_loss, other.actor_loss),
            (&mut self.alpha_loss, other.alpha_loss),
            (&mut self.alpha, other.alpha),
            (&mut self.entropy, other.entropy),
            (&mut self.q_mean, other.q_mean),
            (&mut self.lambda, other.lambda),
            (&mut self.extra_loss, other.extra_loss),
        ] {
            *mean += share * (new - *mean);
        }
        self.updates = updates;
    }
}
