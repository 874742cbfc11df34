//! [`Transitions`]: converts recorded episodes to transition rows (`ItemLayout::of` with T = 1). Actors make rows by
//! the same rules.

use common::config::ClusterConfig;
use common::spec::{Field, ItemLayout};

/// Recorded episode of n steps. Every number is finite.
#[derive(Debug)]
pub(super) struct RecordedEpisode {
    /// Observations before each step and after the last one, (n+1, O).
    pub(super) obs: Vec<f32>,
    /// Actions, (n, W). For continuous actions, W numbers in [-1, 1]. For discrete actions, W is 1 and the number is
    /// the index of the action.
    pub(super) actions: Vec<f32>,
    /// Rewards (n).
    pub(super) rewards: Vec<f64>,
    /// Whether the episode terminated after the step, (n).
    pub(super) terminated: Vec<bool>,
    /// Whether the episode was truncated after the step, (n).
    pub(super) truncated: Vec<bool>,
}

/// Converter of episodes to rows. Every step t starts one row, which covers the m steps from t on. m is
/// `cluster.n_step`, or less if the episode ends earlier. The reward of the row is Σ_{k<m} γ^k r_{t+k}, and its
/// discount is γ^m. The discount is 0 if the episode terminated after these steps. It is also 0 if the episode was
/// truncated after them, unless `cluster.truncation_bootstrap` is set. If the last recorded step has neither flag, the
/// rows that end there keep the discount γ^m.
#[derive(Debug)]
pub(super) struct Transitions {
    row_bytes: usize,
    obs: Field,
    action: Field,
    reward: Field,
    discount: Field,
    next_obs: Field,
    horizon_cost: Option<Field>,
    gamma: f64,
    n_step: usize,
    cost_horizon: usize,
    truncation_bootstrap: bool,
}

impl Transitions {
    /// Creates a converter to rows of this layout, with the run's settings. The layout must be a layout of transitions
    /// without recurrent state.
    pub(super) fn new(cluster: &ClusterConfig, layout: &ItemLayout) -> Self {
        let field =
            |name| layout.field(name).cloned().expect("a field of every layout of transitions");
        Self {
            row_bytes: layout.row_bytes,
            obs: field("obs"),
            action: field("action"),
            reward: field("reward"),
            discount: field("discount"),
            next_obs: field("next_obs"),
            horizon_cost: layout.field("horizon_cost").cloned(),
            gamma: cluster.gamma,
            n_step: cluster.n_step,
            cost_horizon: cluster.cost_horizon,
            truncation_bootstrap: cluster.truncation_bootstrap,
        }
    }

    /// Appends one row per step to `rows`. The rows have policy version 0, because no policy of this run made them.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rows are f32; sums are kept in f64 until here"
    )]
    pub(super) fn append(&self, episode: &RecordedEpisode, rows: &mut Vec<u8>) {
        let steps = episode.rewards.len();
        let (obs_dim, width) = (self.obs.elements(), self.action.elements());
        let obs = |step: usize| &episode.obs[step * obs_dim..][..obs_dim];
        let mut end = 0;
        for step in 0..steps {
            if step == 0 || step > end {
                let ended = |&at: &usize| episode.terminated[at] || episode.truncated[at];
                end = (step..steps).find(ended).unwrap_or(steps - 1);
            }
            let last = end.min(step + self.n_step - 1);
            let (mut reward, mut discount) = (0.0, 1.0);
            for &own in &episode.rewards[step..=last] {
                reward += discount * own;
                discount *= self.gamma;
            }
            let cut = episode.truncated[last] && !self.truncation_bootstrap;
            if episode.terminated[last] || cut {
                discount = 0.0;
            }
            let first = rows.len();
            rows.resize(first + self.row_bytes, 0);
            let row = &mut rows[first..];
            write(row, &self.obs, obs(step));
            write(row, &self.action, &episode.actions[step * width..][..width]);
            write(row, &self.reward, &[reward as f32]);
            write(row, &self.discount, &[discount as f32]);
            write(row, &self.next_obs, obs(last + 1));
            if let Some(field) = &self.horizon_cost {
                let costs = step..step + self.cost_horizon;
                let sum: f64 = costs.map(|at| episode.rewards[at.min(end)]).sum();
                write(row, field, &[sum as f32]);
            }
        }
    }
}

fn write(row: &mut [u8], field: &Field, values: &[f32]) {
    let out = row[field.offset..][..field.bytes()].chunks_exact_mut(4);
    out.zip(values).for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
}
