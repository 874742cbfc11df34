//! A fresh state with a random batch and its noise, for tests of the native backend.

use common::policy::arch::{Activation, PolicyArch};
use learner::init::train_state;
use learner::noise::fill_normal;
use learner::trainer::{ActionUnits, AlphaLoss, Batch, Noise, TrainState, TrainerConfig};
use rand_pcg::Pcg64;

/// A state and all inputs of its next update. Lengths are as in [`Batch`] and [`Noise`].
pub(crate) struct Drawn {
    pub(crate) state: TrainState,
    pub(crate) obs: Vec<f32>,
    pub(crate) action: Vec<f32>,
    pub(crate) reward: Vec<f32>,
    pub(crate) discount: Vec<f32>,
    pub(crate) next_obs: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) next_noise: Vec<f32>,
    pub(crate) noise: Vec<f32>,
}

impl Drawn {
    pub(crate) fn new(config: &TrainerConfig, seed: u128) -> Self {
        let mut rng = Pcg64::new(seed, 1);
        let state = train_state(config, &mut rng);
        let (obs_dim, act_dim) = (config.policy.obs_dim, config.policy.act_dim);
        let mut normal = |width: usize| {
            let mut values = vec![0.0; config.training.batch_size * width];
            fill_normal(&mut values, &mut rng);
            values
        };
        Self {
            state,
            obs: normal(obs_dim),
            action: normal(act_dim).iter().map(|a| a.tanh()).collect(),
            reward: normal(1),
            discount: normal(1).iter().map(|d| if *d > 0.8 { 0.0 } else { 0.97 }).collect(),
            next_obs: normal(obs_dim),
            weight: normal(1).iter().map(|w| 1.0 / (1.0 + w.abs())).collect(),
            next_noise: normal(act_dim),
            noise: normal(act_dim),
        }
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            obs: &self.obs,
            action: &self.action,
            reward: &self.reward,
            discount: &self.discount,
            next_obs: &self.next_obs,
            weight: &self.weight,
            ..Batch::default()
        }
    }

    pub(crate) fn noise(&self) -> Noise<'_> {
        Noise { next_action: &self.next_noise, action: &self.noise, extra: &[] }
    }
}

/// Returns a configuration with ReLU networks of two hidden layers each, with sizes that are no multiple of a kernel's
/// tile.
pub(crate) fn config() -> TrainerConfig {
    TrainerConfig {
        action_scale: vec![1.0; 3],
        action_bias: vec![0.0; 3],
        target_entropy: Some(-3.0),
        ..TrainerConfig::sac(
            PolicyArch::mlp_gaussian((5, 3), &[37, 21], Activation::Relu, (-20.0, 2.0)),
            &[43, 19],
            29,
        )
    }
    .with(|training| {
        training.critic_loss_factor = 1.0;
        training.critic_action_units = ActionUnits::Normalised;
        training.log_prob_units = ActionUnits::Normalised;
        training.alpha_loss = AlphaLoss::Log;
        training.lr_actor = 3e-4;
        training.lr_critic = 1e-3;
        training.lr_alpha = 3e-4;
        training.adam_eps = 1e-8;
        training.tau = 0.005;
        training.alpha_init = 0.5;
    })
}
