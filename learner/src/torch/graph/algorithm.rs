//! [`Algorithm`]: a learning rule, and what it is given and gives back.

use super::params::{Adam, Params, Place, Values};
use crate::torch::ops::signed;
use crate::trainer::{NoiseSizes, PriorityRule, StepSizes, TrainState, TrainerConfig};
use std::fmt::Debug;
use tch::{Kind, Tensor};

/// A learning rule: the settings, and the update as a function of (model, batch, noise). It waits for no device, and no
/// shape in it depends on data.
pub trait Algorithm: Debug + Send {
    /// How many random numbers an update takes.
    fn noise_sizes(&self) -> NoiseSizes;

    /// The numbers that schedules move: each update has its own.
    fn numbers(&mut self) -> &mut Numbers;

    /// One update of everything in the model; `step` is its number, from 1 on.
    fn update(&self, model: &Model, batch: &GraphBatch, noise: &GraphNoise, step: u64) -> Losses;
}

/// The numbers of a configuration in f64: 0.9 where it says 0.9, not the f32 beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Adam's step sizes.
    pub lr: StepSizesExact,
    /// Adam's decay rates.
    pub betas: (f64, f64),
    /// Adam's epsilon.
    pub adam_eps: f64,
    /// Polyak rate.
    pub tau: f64,
    /// Factor of the critics' mean squared errors.
    pub critic_loss_factor: f64,
    /// Where the temperature is tuned.
    pub target_entropy: Option<f64>,
    /// Bound of the temperature's logarithm.
    pub log_alpha_max: f64,
}

/// As [`StepSizes`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "as StepSizes")]
pub struct StepSizesExact {
    pub actor: f64,
    pub critic: f64,
    pub alpha: f64,
    pub lambda: f64,
    pub vae: f64,
}

impl From<&StepSizes> for StepSizesExact {
    fn from(sizes: &StepSizes) -> Self {
        Self {
            actor: exact(sizes.actor),
            critic: exact(sizes.critic),
            alpha: exact(sizes.alpha),
            lambda: exact(sizes.lambda),
            vae: exact(sizes.vae),
        }
    }
}

impl Numbers {
    /// Those of a configuration.
    pub fn new(config: &TrainerConfig) -> Self {
        Self {
            lr: (&config.step_sizes()).into(),
            betas: (exact(config.adam_betas.0), exact(config.adam_betas.1)),
            adam_eps: exact(config.adam_eps),
            tau: exact(config.tau),
            critic_loss_factor: exact(config.critic_loss_factor),
            target_entropy: config.target_entropy.map(exact),
            log_alpha_max: exact(config.alpha_max).ln(),
        }
    }

    /// Adam at that step.
    pub fn adam(&self, lr: f64, step: u64) -> Adam {
        Adam { lr, betas: self.betas, eps: self.adam_eps, step }
    }
}

/// The shortest decimal that the f32 stands for.
pub fn exact(number: f32) -> f64 {
    number.to_string().parse().expect("a printed number is one")
}

/// Everything that is learned. What an algorithm does not have has no elements.
#[derive(Debug)]
#[expect(missing_docs, reason = "as TrainState")]
pub struct Model {
    pub actor: Params,
    pub target_actor: Values,
    pub critics: Params,
    pub targets: Values,
    pub vae: Params,
    pub log_alpha: Params,
    pub log_lambda: Params,
}

impl Model {
    /// Zeros for everything that the algorithm has.
    pub fn new(config: &TrainerConfig, place: Place) -> Self {
        let critic = config.critic.tensor_layout();
        Self {
            actor: Params::new(&config.actor_layout(), 1, place),
            target_actor: Values::new(&config.target_actor_layout(), 1, place),
            critics: Params::new(&critic, config.critics, place),
            targets: Values::new(&critic, config.critics, place),
            vae: Params::new(&config.vae_layout(), 1, place),
            log_alpha: Params::new(&config.log_alpha_layout(), 1, place),
            log_lambda: Params::new(&config.log_lambda_layout(), 1, place),
        }
    }

    /// The tensors that an update changes.
    pub fn tensors(&self) -> Vec<Tensor> {
        let trained = [&self.actor, &self.critics, &self.vae, &self.log_alpha, &self.log_lambda];
        let copies =
            [&self.target_actor, &self.targets].map(|values| values.flat().shallow_clone());
        trained.map(Params::tensors).into_iter().flatten().chain(copies).collect()
    }

    /// Copies from the host; lengths fit.
    pub fn load(&self, state: &TrainState) {
        self.actor.load(&state.actor);
        self.target_actor.load(&state.target_actor);
        self.critics.load(&state.critics);
        self.targets.load(&state.targets);
        self.vae.load(&state.vae);
        self.log_alpha.load(&state.log_alpha);
        self.log_lambda.load(&state.log_lambda);
    }

    /// Copies to the host; what is no tensor (the statistics of observations, the count of updates) stays as it is there.
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

/// A batch on the device; observations are normalised already.
#[derive(Debug)]
pub struct GraphBatch {
    /// Steps at the start of each item that only warm up states.
    pub burn_in: usize,
    /// (B, T, O)
    pub obs: Tensor,
    /// (B, T, A), normalised; (B, T, 1), the index, for discrete actions
    pub action: Tensor,
    /// (B, T)
    pub reward: Tensor,
    /// (B, T)
    pub discount: Tensor,
    /// (B, T, O)
    pub next_obs: Tensor,
    /// (B, S), before the first observation
    pub state: Tensor,
    /// (B, S), before the next observation of a transition
    pub next_state: Tensor,
    /// (B, T), 1 for steps that happened
    pub valid: Tensor,
    /// (B, T), or (B, 0) where costs are not summed
    pub horizon_cost: Tensor,
    /// (B, 1)
    pub weight: Tensor,
}

impl GraphBatch {
    /// The steps after the burn-in of x (B, T, ..).
    pub fn kept(&self, x: &Tensor) -> Tensor {
        let burn_in = signed(self.burn_in);
        x.narrow(1, burn_in, x.size()[1] - burn_in)
    }

    /// The mean of x (.., B, T - burn_in) over the steps that happened, (..).
    pub fn mean(&self, x: &Tensor) -> Tensor {
        let valid = self.kept(&self.valid);
        let happened = valid.sum(None::<Kind>).clamp_min(1.0);
        (x * valid).sum_dim_intlist([-2, -1].as_slice(), false, None::<Kind>) / happened
    }

    /// The mean of x (B, T - burn_in) over each item's steps that happened, (B).
    pub fn mean_of_items(&self, x: &Tensor) -> Tensor {
        let valid = self.kept(&self.valid);
        let sum = |x: &Tensor| x.sum_dim_intlist(-1, false, None::<Kind>);
        sum(&(x * &valid)) / sum(&valid).clamp_min(1.0)
    }

    /// What [`crate::trainer::Trainer::pop_td_abs`] gives: of td (C, B, T - burn_in), (B).
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
pub struct GraphNoise {
    /// (B, T - burn_in, A), empty for discrete actions; BCQ: (B, 1, samples * latent)
    pub next_action: Tensor,
    /// (B, T - burn_in, A) or empty; BCQ: (B, 1, latent)
    pub action: Tensor,
    /// LAC: (B, T - burn_in, A); BCQ: (B, 1, latent); empty otherwise
    pub extra: Tensor,
}

/// What one update says about itself, still on the device. Statistics have one element each, but for `critics` (C); what
/// is absent is 0.
#[derive(Debug)]
#[expect(missing_docs, reason = "as UpdateStats")]
pub struct Losses {
    /// For priorities, (B).
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

/// Statistics of one update, in the order of [`Losses::numbers`].
pub const STATISTICS: usize = 9;

impl Losses {
    /// (STATISTICS) in f64: the first two critics' losses, then the rest in order.
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
