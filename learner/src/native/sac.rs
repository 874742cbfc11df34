//! One update of continuous SAC, in equation order (docs/algorithms/sac.md §3). Letters: B rows, O observation
//! elements, A action elements, c index of a critic, lp log-probability of an action. A bar marks a target network.
//!
//! | phase | split by | computed |
//! |---|---|---|
//! | 1 | rows | a' and lp' from π(s', ξ'); ã and lp from π(s, ξ); π is the policy before its step |
//! | 2 | critic | Q̄_c(s', a'); Q_c(s, a) |
//! | 3 | critic | y; td_c; Adam on Q_c; Polyak step of the target; Q_c(s, ã) with the new weights |
//! | 4 | rows | dQ/dã through the critic with the smaller value; policy gradients of these rows |
//! | 5 | – | sum of the gradients; Adam on π; Adam on log α |

use super::agent::Agent;
use super::critic::CriticUpdate;
use super::part::{Part, critic_action};
use super::split::PARTS;
use crate::trainer::{Batch, Noise, StepSizes, TrainerConfig};
use kernels::Team;

/// Buffers of an update that are not part of the agent. Allocated once.
#[derive(Debug)]
pub(super) struct NativeSac {
    parts: [Part; PARTS],
    /// Stored observations and actions, (B, O + A).
    data: Vec<f32>,
    /// For each row, the position of its value in the flat vector of all values. The shape is (B). The position equals
    /// the index of the row, because a critic has one value per row.
    taken: Vec<usize>,
}

impl NativeSac {
    /// Allocates all buffers.
    pub(super) fn new(agent: &Agent) -> Self {
        let batch = agent.config.training.batch_size;
        let width = agent.config.policy.obs_dim + agent.config.policy.act_dim;
        Self {
            parts: [0, 1].map(|index| Part::new(index, agent)),
            data: vec![0.0; batch * width],
            taken: (0..batch).collect(),
        }
    }

    /// Does one update and returns `true`. Returns `false` and changes nothing if a number is not finite. The caller
    /// has checked the lengths of the slices.
    pub(super) fn update(
        &mut self,
        agent: &mut Agent,
        batch: &Batch<'_>,
        noise: &Noise<'_>,
        sizes: &StepSizes,
        team: &mut Team,
    ) -> bool {
        let (alpha, step) = (agent.alpha(), agent.step(sizes.critic));
        let Agent { config, policy, critic, actor, critics, target, .. } = agent;
        let (config, policy, critic, params) = (&*config, &*policy, &*critic, &actor.params);
        let Self { parts, data, taken } = self;

        team.each(parts, |_, part| part.sample(config, policy, params, batch, noise));

        pair(config, batch, data);
        let [next, own] = [parts.each_ref().map(Part::next), parts.each_ref().map(Part::own)];
        team.each(critics, |_, own| own.evaluate(critic, next, data));

        // y = r + d · (min Q̄(s', a') − α lp')
        for part in &*parts {
            let [one, two] = critics.each_ref().map(|own| own.target_values(part.index));
            for (i, log_prob) in part.next_log_prob().iter().enumerate() {
                let row = part.first + i;
                let bootstrap = one[i].min(two[i]) - alpha * log_prob;
                target[row] = batch.reward[row] + batch.discount[row] * bootstrap;
            }
        }
        let update =
            CriticUpdate { config, critic, data, taken, target, weight: batch.weight, own, step };
        team.each(critics, |_, own| own.learn(&update));

        let twins = &*critics;
        team.each(parts, |_, part| {
            part.choose_critic(config, critic, twins);
            part.policy_gradient(config, policy, params, alpha);
        });

        agent.finish(parts.each_mut().map(|part| &mut part.share), sizes)
    }
}

/// Writes the critics' input for the stored rows to `data` (B, O + A). Each row is the stored observation, then the
/// stored action in the critics' units.
fn pair(config: &TrainerConfig, batch: &Batch<'_>, data: &mut [f32]) {
    let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
    for (row, input) in data.chunks_exact_mut(obs_dim + act_dim).enumerate() {
        input[..obs_dim].copy_from_slice(&batch.obs[row * obs_dim..][..obs_dim]);
        for j in 0..act_dim {
            input[obs_dim + j] = critic_action(config, j, batch.action[row * act_dim + j]);
        }
    }
}
