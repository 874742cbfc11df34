//! One SAC update, in equation order (docs/algorithm.md). B rows, O observation, A action.
//!
//! | phase | split by | what |
//! |---|---|---|
//! | 1 | rows | a', lp' = π(s', ξ'); ã, lp = π(s, ξ): one policy, it has not stepped yet |
//! | 2 | critic | target Q̄_c(s', a'); Q_c(s, a) |
//! | 3 | critic | y; td_c; Adam on Q_c; target Polyak; Q_c(s, ã) with the new weights |
//! | 4 | rows | dQ/dã through the critic that attains the minimum; policy gradients of these rows |
//! | 5 | – | sum of the gradients; Adam on π; Adam on log α |
//!
//! Rows are always halved and critics are always two, whatever the threads: results do not depend on their number.

use super::elementwise::{AdamStep, adam, add, polyak};
use super::mlp::{Activations, Mlp, Scratch};
use super::team::Team;
use crate::trainer::{
    ActionUnits, AlphaLoss, Batch, Group, Noise, SacConfig, TrainState, UpdateStats, critic_layout,
};

/// Parts that the rows of a batch are split into.
const PARTS: usize = 2;

/// Everything an update works on. Allocated once.
#[derive(Debug)]
pub(crate) struct Sac {
    config: SacConfig,
    policy: Mlp,
    critic: Mlp,
    actor: Group,
    log_alpha: Group,
    updates: u64,
    parts: Vec<Part>,
    critics: Vec<Critic>,
    /// y, (B)
    target: Vec<f32>,
    /// (B), mean over the critics of |Q − y|
    pub(crate) td_abs: Vec<f32>,
    /// Sums since the statistics were last taken.
    pub(crate) sums: UpdateStats,
}

/// What the row split owns: one half of the batch, as the policy sees it.
#[derive(Debug)]
struct Part {
    /// First row and number of rows.
    first: usize,
    rows: usize,
    next: Sampled,
    own: Sampled,
    /// dL/d(mu, log_std), (rows, 2A)
    d_heads: Vec<f32>,
    /// dQ/da of the attained minimum, (rows, A)
    d_action: Vec<f32>,
    min_q_sum: f64,
    /// Rows whose minimum one critic attains, and scratch for them.
    chosen: Vec<usize>,
    ones: Vec<f32>,
    gathered: Vec<Vec<f32>>,
    d_gathered: Vec<f32>,
    critic_scratch: Scratch,
    policy_scratch: Scratch,
    grads: Vec<f32>,
}

/// A policy sample of one half.
#[derive(Debug)]
struct Sampled {
    kept: Activations,
    /// (rows, O + A), the critic's input: observation and action in the critic's units
    input: Vec<f32>,
    /// tanh(u), (rows, A)
    squashed: Vec<f32>,
    /// ξ, (rows, A)
    noise: Vec<f32>,
    /// (rows)
    log_prob: Vec<f32>,
}

/// What the critic split owns.
#[derive(Debug)]
struct Critic {
    group: Group,
    target: Vec<f32>,
    grads: Vec<f32>,
    /// (B, O + A), stored actions
    data: Vec<f32>,
    data_kept: Activations,
    /// By part.
    policy_kept: Vec<Activations>,
    target_kept: Vec<Activations>,
    /// (B)
    target_q: Vec<f32>,
    td: Vec<f32>,
    d_q: Vec<f32>,
    scratch: Scratch,
    loss: f64,
}

impl Sac {
    /// Room for everything, and the state taken over; its lengths are checked by the caller.
    pub(crate) fn new(config: SacConfig, state: &TrainState) -> Self {
        let arch = &config.policy;
        let (obs_dim, act_dim, batch) = (arch.obs_dim, arch.act_dim, config.batch_size);
        let policy = Mlp::policy(arch);
        let layout = critic_layout(obs_dim, act_dim, &config.critic_hidden);
        let critic = Mlp::critic(&layout, config.critic_activation);
        let bounds: Vec<usize> = (0..=PARTS).map(|part| part * batch / PARTS).collect();
        let sampled = |rows: usize| Sampled {
            kept: policy.activations(rows),
            input: vec![0.0; rows * (obs_dim + act_dim)],
            squashed: vec![0.0; rows * act_dim],
            noise: vec![0.0; rows * act_dim],
            log_prob: vec![0.0; rows],
        };
        let parts = bounds.windows(2).map(|bound| {
            let (first, rows) = (bound[0], bound[1] - bound[0]);
            Part {
                first,
                rows,
                next: sampled(rows),
                own: sampled(rows),
                d_heads: vec![0.0; rows * 2 * act_dim],
                d_action: vec![0.0; rows * act_dim],
                min_q_sum: 0.0,
                chosen: Vec::with_capacity(rows),
                ones: vec![1.0; rows],
                gathered: critic.gathered(rows),
                d_gathered: vec![0.0; rows * act_dim],
                critic_scratch: critic.scratch(rows),
                policy_scratch: policy.scratch(rows),
                grads: vec![0.0; state.actor.params.len()],
            }
        });
        let parts: Vec<Part> = parts.collect();
        let kept = || parts.iter().map(|part| critic.activations(part.rows)).collect::<Vec<_>>();
        let critics = (0..2).map(|i| {
            let span = i * layout.parameters..(i + 1) * layout.parameters;
            Critic {
                group: Group {
                    params: state.critics.params[span.clone()].to_vec(),
                    adam_m: state.critics.adam_m[span.clone()].to_vec(),
                    adam_v: state.critics.adam_v[span.clone()].to_vec(),
                },
                target: state.targets[span].to_vec(),
                grads: vec![0.0; layout.parameters],
                data: vec![0.0; batch * (obs_dim + act_dim)],
                data_kept: critic.activations(batch),
                policy_kept: kept(),
                target_kept: kept(),
                target_q: vec![0.0; batch],
                td: vec![0.0; batch],
                d_q: vec![0.0; batch],
                scratch: critic.scratch(batch),
                loss: 0.0,
            }
        });
        let critics = critics.collect();
        Self {
            policy,
            critic,
            actor: state.actor.clone(),
            log_alpha: state.log_alpha.clone(),
            updates: state.updates,
            parts,
            critics,
            target: vec![0.0; batch],
            td_abs: vec![0.0; batch],
            sums: UpdateStats::default(),
            config,
        }
    }

    /// A copy of the state.
    pub(crate) fn state(&self) -> TrainState {
        let join = |get: fn(&Critic) -> &Vec<f32>| {
            self.critics.iter().flat_map(get).copied().collect::<Vec<f32>>()
        };
        let critics = Group {
            params: join(|critic| &critic.group.params),
            adam_m: join(|critic| &critic.group.adam_m),
            adam_v: join(|critic| &critic.group.adam_v),
        };
        let (actor, log_alpha) = (self.actor.clone(), self.log_alpha.clone());
        TrainState {
            actor,
            critics,
            targets: join(|critic| &critic.target),
            log_alpha,
            updates: self.updates,
        }
    }

    pub(crate) fn config(&self) -> &SacConfig {
        &self.config
    }

    pub(crate) fn actor_params(&self) -> &[f32] {
        &self.actor.params
    }

    /// One update. The slices' lengths are checked by the caller.
    pub(crate) fn update(&mut self, batch: &Batch<'_>, noise: &Noise<'_>, team: &mut Team) {
        self.updates += 1;
        let alpha = self.log_alpha.params[0].exp();
        let Self { config, policy, critic, actor, parts, critics, target, .. } = self;
        let (config, policy, critic) = (&*config, &*policy, &*critic);

        let params = &actor.params;
        team.each(parts, |_, part| part.sample(config, policy, params, batch, noise));

        let halves = &*parts;
        team.each(critics, |_, own| own.evaluate(config, critic, halves, batch));

        // y = r + discount · (min Q̄(s', a') − α lp')
        let log_probs = halves.iter().flat_map(|half| &half.next.log_prob);
        for (row, (y, log_prob)) in target.iter_mut().zip(log_probs).enumerate() {
            let bootstrap =
                critics[0].target_q[row].min(critics[1].target_q[row]) - alpha * log_prob;
            *y = batch.reward[row] + batch.discount[row] * bootstrap;
        }
        let target = &*target;
        let step = AdamStep::new(config.lr_critic, config.adam_eps, self.updates);
        team.each(critics, |_, own| own.learn(config, critic, halves, batch, target, step));

        let twins = &*critics;
        team.each(parts, |_, part| {
            part.choose_critic(config, critic, twins);
            part.policy_gradient(config, policy, params, alpha);
        });

        self.finish(alpha);
    }

    /// Phase 5, and the statistics.
    fn finish(&mut self, alpha: f32) {
        let Self { config, actor, log_alpha, parts, critics, td_abs, sums, .. } = self;
        let (first, others) = parts.split_at_mut(1);
        let grads = &mut first[0].grads;
        others.iter().for_each(|part| add(grads, &part.grads));
        let step = AdamStep::new(config.lr_actor, config.adam_eps, self.updates);
        adam(&mut actor.params, &mut actor.adam_m, &mut actor.adam_v, grads, step);

        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let rows = config.batch_size as f64;
        let parts = &*parts;
        let log_probs = parts.iter().flat_map(|part| &part.own.log_prob);
        let log_prob = log_probs.map(|&lp| f64::from(lp)).sum::<f64>() / rows;
        let min_q = parts.iter().map(|part| part.min_q_sum).sum::<f64>() / rows;
        if let Some(target_entropy) = config.target_entropy {
            // L = −mean(log α · (lp + H̄)), or −α · mean(lp + H̄)
            let surplus = -(log_prob + f64::from(target_entropy));
            let (loss, gradient) = match config.alpha_loss {
                AlphaLoss::Log => (f64::from(log_alpha.params[0]) * surplus, surplus),
                AlphaLoss::Exp => (f64::from(alpha) * surplus, f64::from(alpha) * surplus),
            };
            sums.alpha_loss += loss;
            let step = AdamStep::new(config.lr_alpha, config.adam_eps, self.updates);
            #[expect(clippy::cast_possible_truncation, reason = "log α is f32 on both backends")]
            let gradient = [gradient as f32];
            adam(
                &mut log_alpha.params,
                &mut log_alpha.adam_m,
                &mut log_alpha.adam_v,
                &gradient,
                step,
            );
        }
        for (row, td) in td_abs.iter_mut().enumerate() {
            *td = f32::midpoint(critics[0].td[row].abs(), critics[1].td[row].abs());
        }
        sums.updates += 1;
        sums.critic1_loss += critics[0].loss / rows;
        sums.critic2_loss += critics[1].loss / rows;
        sums.actor_loss += f64::from(alpha) * log_prob - min_q;
        sums.alpha += f64::from(alpha);
        sums.entropy -= log_prob;
        sums.q_mean += min_q;
    }
}

impl Part {
    /// Phase 1: both policy samples of these rows.
    fn sample(
        &mut self,
        config: &SacConfig,
        policy: &Mlp,
        params: &[f32],
        batch: &Batch<'_>,
        noise: &Noise<'_>,
    ) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let obs = self.first * obs_dim..(self.first + self.rows) * obs_dim;
        let act = self.first * act_dim..(self.first + self.rows) * act_dim;
        self.next.draw(
            config,
            policy,
            params,
            &batch.next_obs[obs.clone()],
            &noise.next_action[act.clone()],
        );
        self.own.draw(config, policy, params, &batch.obs[obs], &noise.action[act]);
    }

    /// Phase 4a: dQ/da of min(Q1, Q2), through the critic that attains it, into `d_action`.
    fn choose_critic(&mut self, config: &SacConfig, critic: &Mlp, twins: &[Critic]) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let part = usize::from(self.first > 0);
        let [q1, q2] = [0, 1].map(|c: usize| twins[c].policy_kept[part].output());
        self.min_q_sum = q1.iter().zip(q2).map(|(q1, q2)| f64::from(q1.min(*q2))).sum();
        for (c, own) in twins.iter().enumerate() {
            self.chosen.clear();
            self.chosen.extend((0..self.rows).filter(|&row| (q2[row] < q1[row]) == (c == 1)));
            let rows = self.chosen.len();
            critic.gather(&own.policy_kept[part], &self.chosen, &mut self.gathered);
            let d_gathered = &mut self.d_gathered[..rows * act_dim];
            let (params, ones) = (&own.group.params, &self.ones[..rows]);
            critic.backward_input(
                params,
                &self.gathered,
                ones,
                obs_dim,
                &mut self.critic_scratch,
                d_gathered,
            );
            for (row, d) in self.chosen.iter().zip(d_gathered.chunks_exact(act_dim)) {
                self.d_action[row * act_dim..][..act_dim].copy_from_slice(d);
            }
        }
    }

    /// Phase 4b: gradients of L = mean(α lp − min Q) with respect to the policy's parameters.
    ///
    /// With t = tanh u, u = μ + σξ: d lp/du = 2t and d lp/d(log σ) = −1 + 2t·σξ (the Gaussian term depends on ξ alone).
    fn policy_gradient(&mut self, config: &SacConfig, policy: &Mlp, params: &[f32], alpha: f32) {
        let act_dim = config.policy.act_dim;
        let (low, high) = (config.policy.log_std_min, config.policy.log_std_max);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 1.0 / config.batch_size as f32;
        let heads = self.own.kept.output().chunks_exact(2 * act_dim);
        for (row, (heads, d_heads)) in
            heads.zip(self.d_heads.chunks_exact_mut(2 * act_dim)).enumerate()
        {
            for j in 0..act_dim {
                let at = row * act_dim + j;
                let (tanh, raw, noise) =
                    (self.own.squashed[at], heads[act_dim + j], self.own.noise[at]);
                let unit = critic_scale(config, j);
                let d_u =
                    share * (alpha * 2.0 * tanh - self.d_action[at] * unit * (1.0 - tanh * tanh));
                d_heads[j] = d_u;
                // The clamp passes gradients within its bounds only.
                let inside = low <= raw && raw <= high;
                d_heads[act_dim + j] =
                    if inside { d_u * raw.exp() * noise - share * alpha } else { 0.0 };
            }
        }
        let obs_dim = config.policy.obs_dim;
        self.own.observations(obs_dim, act_dim);
        let Self { own, d_heads, policy_scratch, grads, .. } = self;
        policy.backward_params(
            params,
            &own.input[..own.log_prob.len() * obs_dim],
            &own.kept,
            d_heads,
            policy_scratch,
            grads,
        );
    }
}

impl Sampled {
    /// a = tanh(μ + σξ), its log-probability (form E, SEED-SPEC §2.2), and the critic's input.
    fn draw(
        &mut self,
        config: &SacConfig,
        policy: &Mlp,
        params: &[f32],
        obs: &[f32],
        noise: &[f32],
    ) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let (low, high) = (config.policy.log_std_min, config.policy.log_std_max);
        let log_scale = match config.log_prob_units {
            ActionUnits::Normalised => 0.0,
            ActionUnits::Env => config.action_scale.iter().map(|scale| scale.ln()).sum(),
        };
        policy.forward(params, obs, &mut self.kept);
        self.noise.copy_from_slice(noise);
        let heads = self.kept.output().chunks_exact(2 * act_dim);
        for (row, heads) in heads.enumerate() {
            let input = &mut self.input[row * (obs_dim + act_dim)..][..obs_dim + act_dim];
            input[..obs_dim].copy_from_slice(&obs[row * obs_dim..][..obs_dim]);
            let mut log_prob = -log_scale;
            for j in 0..act_dim {
                let at = row * act_dim + j;
                let log_std = heads[act_dim + j].clamp(low, high);
                let u = heads[j] + log_std.exp() * noise[at];
                log_prob += common::policy::squash::log_prob_term(u, log_std, noise[at]);
                let tanh = u.tanh();
                self.squashed[at] = tanh;
                input[obs_dim + j] = critic_action(config, j, tanh);
            }
            self.log_prob[row] = log_prob;
        }
    }

    /// Packs the observations at the front of `input`: the critics are done with it, the policy's backward pass wants them.
    fn observations(&mut self, obs_dim: usize, act_dim: usize) {
        for row in 1..self.log_prob.len() {
            let from = row * (obs_dim + act_dim);
            self.input.copy_within(from..from + obs_dim, row * obs_dim);
        }
    }
}

impl Critic {
    /// Phase 2: target values of the next actions, values of the stored ones.
    fn evaluate(&mut self, config: &SacConfig, critic: &Mlp, halves: &[Part], batch: &Batch<'_>) {
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        for (half, kept) in halves.iter().zip(&mut self.target_kept) {
            critic.forward(&self.target, &half.next.input, kept);
            self.target_q[half.first..half.first + half.rows].copy_from_slice(kept.output());
        }
        for (row, input) in self.data.chunks_exact_mut(obs_dim + act_dim).enumerate() {
            input[..obs_dim].copy_from_slice(&batch.obs[row * obs_dim..][..obs_dim]);
            for j in 0..act_dim {
                input[obs_dim + j] = critic_action(config, j, batch.action[row * act_dim + j]);
            }
        }
        critic.forward(&self.group.params, &self.data, &mut self.data_kept);
    }

    /// Phase 3: L = mean(w (Q − y)²), Adam, Polyak, and the new values of the policy's actions.
    fn learn(
        &mut self,
        config: &SacConfig,
        critic: &Mlp,
        halves: &[Part],
        batch: &Batch<'_>,
        target: &[f32],
        step: AdamStep,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let share = 2.0 * config.critic_loss_factor / config.batch_size as f32;
        self.loss = 0.0;
        for (row, q) in self.data_kept.output().iter().enumerate() {
            let (td, weight) = (q - target[row], batch.weight[row]);
            self.td[row] = td;
            self.d_q[row] = share * weight * td;
            self.loss += f64::from(config.critic_loss_factor * weight * td * td);
        }
        let Group { params, adam_m, adam_v } = &mut self.group;
        critic.backward_params(
            params,
            &self.data,
            &self.data_kept,
            &self.d_q,
            &mut self.scratch,
            &mut self.grads,
        );
        adam(params, adam_m, adam_v, &self.grads, step);
        polyak(&mut self.target, params, config.tau);
        for (half, kept) in halves.iter().zip(&mut self.policy_kept) {
            critic.forward(params, &half.own.input, kept);
        }
    }
}

/// A normalised action in the critic's units.
fn critic_action(config: &SacConfig, j: usize, action: f32) -> f32 {
    match config.critic_action_units {
        ActionUnits::Normalised => action,
        ActionUnits::Env => action * config.action_scale[j] + config.action_bias[j],
    }
}

/// d(critic's action) / d(normalised action).
fn critic_scale(config: &SacConfig, j: usize) -> f32 {
    match config.critic_action_units {
        ActionUnits::Normalised => 1.0,
        ActionUnits::Env => config.action_scale[j],
    }
}
