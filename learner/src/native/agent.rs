//! [`Agent`]: the learned state, and the parts of an update that continuous and discrete SAC share.

use super::critic::Critic;
use super::mlp::NativeMlp;
use super::split::PARTS;
use crate::plain_sac;
use crate::trainer::{AlphaLoss, ParamGroup, StepSizes, TrainState, TrainerConfig, UpdateStats};
use kernels::{adam::AdamStep, elementwise::add};

/// Networks, optimisers, temperature, and the statistics of updates. All memory is allocated once.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) config: TrainerConfig,
    pub(super) policy: NativeMlp,
    pub(super) critic: NativeMlp,
    pub(super) actor: ParamGroup,
    next_actor: ParamGroup,
    pub(super) critics: [Critic; 2],
    log_alpha: ParamGroup,
    next_log_alpha: ParamGroup,
    updates: u64,
    /// Target values y, (B).
    pub(super) target: Vec<f32>,
    /// Mean of |Q − y| over the two critics, (B).
    pub(super) td_abs: Vec<f32>,
    /// Sums of the statistics over the updates since the statistics were last read.
    pub(super) sums: UpdateStats,
}

/// Contribution of one part of the rows to the update of the policy.
#[derive(Debug)]
pub(super) struct Share {
    /// Gradient of the actor's loss, laid out as the policy's parameters.
    pub(super) grads: Vec<f32>,
    /// Sum of the policy's entropy over the rows. For continuous actions, the entropy of a row is estimated by the
    /// negative log-probability of the sampled action.
    pub(super) entropy: f64,
    /// Sum of the smaller critic value over the rows. For discrete actions, the term of a row is the expectation Σ_a
    /// p_a min Q_a, where p_a is the probability of action a.
    pub(super) min_q: f64,
}

impl Share {
    /// Allocates the gradients.
    pub(super) fn new(agent: &Agent) -> Self {
        Self { grads: vec![0.0; agent.actor.params.len()], entropy: 0.0, min_q: 0.0 }
    }
}

impl Agent {
    /// Creates an agent with a copy of the state. The caller has checked the lengths in the state.
    pub(super) fn new(config: TrainerConfig, state: &TrainState) -> Self {
        let critic = NativeMlp::critic(
            &config.critic.tensor_layout(),
            plain_sac::critic_activation(&config),
        );
        let critics = [0, 1].map(|i| Critic::new(i, config.training.batch_size, &critic, state));
        Self {
            policy: NativeMlp::policy(&config.policy),
            critic,
            actor: state.actor.clone(),
            next_actor: state.actor.clone(),
            critics,
            log_alpha: state.log_alpha.clone(),
            next_log_alpha: state.log_alpha.clone(),
            updates: state.updates,
            target: vec![0.0; config.training.batch_size],
            td_abs: vec![0.0; config.training.batch_size],
            sums: UpdateStats::default(),
            config,
        }
    }

    /// Returns a copy of the state.
    pub(super) fn state(&self) -> TrainState {
        let join = |get: fn(&Critic) -> &Vec<f32>| {
            self.critics.iter().flat_map(get).copied().collect::<Vec<f32>>()
        };
        let critics = ParamGroup {
            params: join(|critic| &critic.group.params),
            adam_m: join(|critic| &critic.group.adam_m),
            adam_v: join(|critic| &critic.group.adam_v),
        };
        TrainState {
            actor: self.actor.clone(),
            critics,
            targets: join(|critic| &critic.target),
            log_alpha: self.log_alpha.clone(),
            updates: self.updates,
            ..TrainState::default()
        }
    }

    /// Returns the temperature α for the current update.
    pub(super) fn alpha(&self) -> f32 {
        self.log_alpha.params[0].exp()
    }

    /// Returns the Adam scalars for the current update with step size `lr`.
    #[expect(clippy::cast_possible_truncation, reason = "the arithmetic is f32")]
    pub(super) fn step(&self, lr: f64) -> AdamStep {
        AdamStep::new(lr as f32, self.config.training.adam_eps as f32, self.updates + 1)
    }

    /// Ends an update. Adds the gradients of the shares, does one Adam step on the policy and one on the temperature,
    /// and adds to the statistics. Returns whether all numbers are finite. If a number is not finite, the state stays
    /// as it was before the update.
    pub(super) fn finish(&mut self, shares: [&mut Share; PARTS], sizes: &StepSizes) -> bool {
        let [first, second] = shares;
        add(&mut first.grads, &second.grads);
        let step = self.step(sizes.actor);
        let policy_finite = self.actor.adam(&first.grads, step, &mut self.next_actor);

        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let rows = self.config.training.batch_size as f64;
        let entropy = (first.entropy + second.entropy) / rows;
        let min_q = (first.min_q + second.min_q) / rows;
        let alpha = self.alpha();
        let (alpha_loss, temperature_finite) = self.tune_temperature(entropy, sizes.alpha);
        let actor_loss = f64::from(alpha) * entropy + min_q;

        let [one, two] = &self.critics;
        for ((td, one), two) in self.td_abs.iter_mut().zip(&one.td).zip(&two.td) {
            *td = f32::midpoint(one.abs(), two.abs());
        }
        let finite = policy_finite
            && temperature_finite
            && self.critics.iter().all(|critic| critic.finite)
            && actor_loss.is_finite();
        for critic in &mut self.critics {
            critic.settle(&self.critic, finite);
        }
        if !finite {
            return false;
        }
        std::mem::swap(&mut self.actor, &mut self.next_actor);
        if self.config.target_entropy.is_some() {
            std::mem::swap(&mut self.log_alpha, &mut self.next_log_alpha);
        }
        let ([one, two], sums) = (&self.critics, &mut self.sums);
        sums.updates += 1;
        sums.critic1_loss += one.loss / rows;
        sums.critic2_loss += two.loss / rows;
        sums.actor_loss -= actor_loss;
        sums.alpha_loss += alpha_loss;
        sums.alpha += f64::from(alpha);
        sums.entropy += entropy;
        sums.q_mean += min_q;
        self.updates += 1;
        true
    }

    /// Computes the loss L of the temperature and does one Adam step on log α, which stays within its bounds. With the
    /// entropy H and the target entropy H̄, L is log α · (H − H̄), or α · (H − H̄) with [`AlphaLoss::Exp`]. Returns L,
    /// and whether all numbers are finite. If the temperature is fixed, L is 0.
    fn tune_temperature(&mut self, entropy: f64, lr: f64) -> (f64, bool) {
        let Some(target_entropy) = self.config.target_entropy else { return (0.0, true) };
        let surplus = entropy - target_entropy;
        let (log_alpha, alpha) = (self.log_alpha.params[0], f64::from(self.alpha()));
        let (loss, gradient) = match self.config.training.alpha_loss {
            AlphaLoss::Log => (f64::from(log_alpha) * surplus, surplus),
            AlphaLoss::Exp => (alpha * surplus, alpha * surplus),
        };
        let step = self.step(lr);
        let (min, max) = self.config.log_alpha_bounds();
        #[expect(clippy::cast_possible_truncation, reason = "log α is f32 on both backends")]
        let (gradient, min, max) = ([gradient as f32], min as f32, max as f32);
        let next = &mut self.next_log_alpha;
        let finite = self.log_alpha.adam(&gradient, step, next);
        next.params[0] = next.params[0].max(min).min(max);
        (loss, finite && loss.is_finite())
    }
}
