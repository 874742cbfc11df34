//! [`LearningRule`]: the interface of a learning rule. Its inputs are [`AutogradBatch`] and [`AutogradNoise`], its
//! state is [`Model`], and its statistics are [`Losses`].

use super::params::{FlatParams, TensorOptions, TrainedParams};
use crate::torch::ops::signed;
use crate::trainer::{NoiseSizes, PriorityRule, StepSizes, TrainState, TrainerConfig};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// A learning rule. It holds the settings, and its update is a function of model, batch and noise. The update does not
/// wait for the device, and no tensor's shape depends on values in the data.
pub trait LearningRule: Debug + Send {
    /// Returns how many random numbers an update takes.
    fn noise_sizes(&self) -> NoiseSizes;

    /// Does one update of all parameters in the model.
    fn update(
        &self,
        model: &Model,
        batch: &AutogradBatch,
        noise: &AutogradNoise,
        step: &UpdateStep,
    ) -> Losses;
}

/// Number and step sizes of one update.
#[derive(Debug, Clone, Copy)]
pub struct UpdateStep {
    /// Number of the update, counted from 1.
    pub number: u64,
    /// Adam's step sizes.
    pub sizes: StepSizes,
}

/// All learned parameters, their Adam moments and the target networks. A member that the algorithm does not use has no
/// elements.
#[derive(Debug)]
#[expect(missing_docs, reason = "as TrainState")]
pub struct Model {
    pub actor: TrainedParams,
    pub target_actor: FlatParams,
    pub critics: TrainedParams,
    pub targets: FlatParams,
    pub vae: TrainedParams,
    pub log_alpha: TrainedParams,
    pub log_lambda: TrainedParams,
}

impl Model {
    /// Creates all members that the algorithm uses, filled with zeros.
    pub fn new(config: &TrainerConfig, options: TensorOptions) -> Self {
        let critic = config.critic.tensor_layout();
        Self {
            actor: TrainedParams::new(&config.actor_layout(), 1, options),
            target_actor: FlatParams::new(&config.target_actor_layout(), 1, options),
            critics: TrainedParams::new(&critic, config.training.critics, options),
            targets: FlatParams::new(&critic, config.training.critics, options),
            vae: TrainedParams::new(&config.vae_layout(), 1, options),
            log_alpha: TrainedParams::new(&config.log_alpha_layout(), 1, options),
            log_lambda: TrainedParams::new(&config.log_lambda_layout(), 1, options),
        }
    }

    /// Returns the tensors that an update changes.
    pub fn tensors(&self) -> Vec<Tensor> {
        let trained = [&self.actor, &self.critics, &self.vae, &self.log_alpha, &self.log_lambda];
        let copies =
            [&self.target_actor, &self.targets].map(|values| values.flat().shallow_clone());
        trained.map(TrainedParams::tensors).into_iter().flatten().chain(copies).collect()
    }

    /// Copies a state from the host. The lengths in the state must fit the model.
    pub fn load(&self, state: &TrainState) {
        self.actor.load(&state.actor);
        self.target_actor.load(&state.target_actor);
        self.critics.load(&state.critics);
        self.targets.load(&state.targets);
        self.vae.load(&state.vae);
        self.log_alpha.load(&state.log_alpha);
        self.log_lambda.load(&state.log_lambda);
    }

    /// Copies the tensors to `state` in host memory. Leaves the observation statistics and the update count in `state`
    /// unchanged.
    pub fn save(&self, state: &mut TrainState) {
        state.actor = self.actor.save();
        state.target_actor = self.target_actor.save();
        state.critics = self.critics.save();
        state.targets = self.targets.save();
        state.vae = self.vae.save();
        state.log_alpha = self.log_alpha.save();
        state.log_lambda = self.log_lambda.save();
    }
}

/// A batch on the device. Its observations are already normalised.
#[derive(Debug)]
pub struct AutogradBatch {
    /// Number of steps at the start of each item that only update the recurrent states.
    pub burn_in: usize,
    /// Observations, (B, T, O).
    pub obs: Tensor,
    /// Normalised actions, (B, T, A). For discrete actions, the indices of the actions, (B, T, 1).
    pub action: Tensor,
    /// Rewards, (B, T).
    pub reward: Tensor,
    /// Discounts, (B, T).
    pub discount: Tensor,
    /// Next observations, (B, T, O).
    pub next_obs: Tensor,
    /// Policy state before the first observation, (B, S).
    pub state: Tensor,
    /// Policy state before the next observation of a transition, (B, S).
    pub next_state: Tensor,
    /// 1 for steps that happened, 0 for padding, (B, T).
    pub valid: Tensor,
    /// Sums of rewards over a finite horizon, (B, T). (B, 0) unless `cluster.cost_horizon` is set.
    pub horizon_cost: Tensor,
    /// Importance weights, (B, 1).
    pub weight: Tensor,
}

impl AutogradBatch {
    /// Returns x (B, T, ..) without the steps of the burn-in, (B, T - burn_in, ..).
    pub fn kept(&self, x: &Tensor) -> Tensor {
        let burn_in = signed(self.burn_in);
        x.narrow(1, burn_in, x.size()[1] - burn_in)
    }

    /// Returns the mean of x (.., B, T - burn_in) over the items and over the steps that happened. The result has the
    /// remaining dimensions (..).
    pub fn mean(&self, x: &Tensor) -> Tensor {
        let valid = self.kept(&self.valid);
        let happened = valid.sum(None::<Kind>).clamp_min(1.0);
        (x * valid).sum_dim_intlist([-2, -1].as_slice(), false, None::<Kind>) / happened
    }

    /// Returns the mean of x (B, T - burn_in) for each item, over the steps of the item that happened, (B).
    pub fn mean_of_items(&self, x: &Tensor) -> Tensor {
        let valid = self.kept(&self.valid);
        let sum = |x: &Tensor| x.sum_dim_intlist(-1, false, None::<Kind>);
        sum(&(x * &valid)) / sum(&valid).clamp_min(1.0)
    }

    /// Returns the |td| of each item, (B), computed by `rule` from the td of the critics, (C, B, T - burn_in). It is
    /// the result of [`crate::trainer::Trainer::pop_td_abs`].
    pub fn priority(&self, td: &Tensor, rule: PriorityRule) -> Tensor {
        let critics = |x: &Tensor| x.mean_dim(0, false, None::<Kind>);
        self.mean_of_items(&match rule {
            PriorityRule::MeanAbs => critics(&td.abs()),
            PriorityRule::AbsMean => critics(td).abs(),
        })
    }
}

/// Random numbers of one update on the device; see [`crate::trainer::Noise`].
#[derive(Debug)]
pub struct AutogradNoise {
    /// Noise of the next action, (B, T - burn_in, A). Discrete actions: empty. BCQ: (B, 1, samples * latent).
    pub next_action: Tensor,
    /// Noise of the action, (B, T - burn_in, A) or empty. BCQ: (B, 1, latent).
    pub action: Tensor,
    /// Additional noise. LAC: (B, T - burn_in, A). BCQ: (B, 1, latent). Other algorithms: empty.
    pub extra: Tensor,
}

/// Statistics of one update, which are still on the device. Each has one element, except `td_abs` (B) and `critics`
/// (C). `None` counts as 0.
#[derive(Debug)]
#[expect(missing_docs, reason = "as UpdateStats")]
pub struct Losses {
    /// |td| of each item, from which its new priority is computed, (B).
    pub td_abs: Tensor,
    pub critics: Tensor,
    pub actor: Tensor,
    pub alpha_loss: Option<Tensor>,
    pub alpha: Option<Tensor>,
    pub entropy: Option<Tensor>,
    pub q_mean: Tensor,
    pub lambda: Option<Tensor>,
    pub extra_loss: Option<Tensor>,
}

/// Number of elements of [`Losses::numbers`].
pub const STATISTICS: usize = 9;

impl Losses {
    /// Returns the statistics as one f64 vector, (STATISTICS). The losses of the first two critics come first, then the
    /// other fields in the order of their definition.
    pub fn numbers(&self) -> Tensor {
        let of = |x: &Tensor| x.detach().to_kind(Kind::Double).reshape([1]);
        let zero = || Tensor::zeros([1], (Kind::Double, self.actor.device()));
        let maybe = |x: &Option<Tensor>| x.as_ref().map_or_else(zero, of);
        let second = if self.critics.size()[0] > 1 { of(&self.critics.get(1)) } else { zero() };
        Tensor::cat(
            &[
                of(&self.critics.get(0)),
                second,
                of(&self.actor),
                maybe(&self.alpha_loss),
                maybe(&self.alpha),
                maybe(&self.entropy),
                of(&self.q_mean),
                maybe(&self.lambda),
                maybe(&self.extra_loss),
            ],
            0,
        )
    }
}
