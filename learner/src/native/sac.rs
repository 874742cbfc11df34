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

use super::critic::Critic;
use super::elementwise::{AdamStep, adam, add};
use super::mlp::Mlp;
use super::part::{PARTS, Part};
use super::team::Team;
use crate::trainer::{AlphaLoss, Batch, Group, Noise, TrainState, TrainerConfig, UpdateStats};

/// Everything an update works on. Allocated once.
#[derive(Debug)]
pub(crate) struct Sac {
    config: TrainerConfig,
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

impl Sac {
    /// Room for everything, and the state taken over; its lengths are checked by the caller.
    pub(crate) fn new(config: TrainerConfig, state: &TrainState) -> Self {
        let arch = &config.policy;
        let batch = config.batch_size;
        let policy = Mlp::policy(arch);
        let layout = config.critic.tensor_layout();
        let critic = Mlp::critic(&layout, config.plain_critic_activation());
        let parts = (0..PARTS).map(|i| Part::new(i, &config, &policy, &critic));
        let parts: Vec<Part> = parts.collect();
        let critics = (0..2).map(|i| Critic::new(i, &config, &critic, &parts, state)).collect();
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
            ..TrainState::default()
        }
    }

    /// Other step sizes and switches; the networks must be the same.
    pub(crate) fn reconfigure(&mut self, config: TrainerConfig) {
        self.config = config;
    }

    pub(crate) fn config_mut(&mut self) -> &mut TrainerConfig {
        &mut self.config
    }

    pub(crate) fn config(&self) -> &TrainerConfig {
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
