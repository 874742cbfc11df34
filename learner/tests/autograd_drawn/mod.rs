//! Small networks of every kind with random weights, and update steps for them, for tests of the autograd trainer.

use common::policy::arch::{Activation, Body, Head, Mlp, PolicyArch};
use common::policy::layout::TensorLayout;
use learner::init::group;
use learner::torch::AutogradTrainer;
use learner::trainer::{Batch, Noise, StepSizes, TargetActor, TrainState, Trainer, TrainerConfig};
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;

pub(crate) const SEED: u64 = 33;
pub(crate) const OBS: usize = 6;
pub(crate) const ACT: usize = 2;
pub(crate) const BATCH: usize = 5;

pub(crate) fn normals(rng: &mut Pcg64, n: usize) -> Vec<f32> {
    (0..n).map(|_| StandardNormal.sample(rng)).collect()
}

pub(crate) fn mlp(hidden: &[usize]) -> Mlp {
    Mlp { hidden: hidden.to_vec(), activation: Activation::Tanh, layer_norm: true, last: None }
}

pub(crate) fn lstm() -> Body {
    Body::Lstm { layers: 2, hidden: 4 }
}

pub(crate) fn config(body: Body, critic: Body) -> TrainerConfig {
    let plain = PolicyArch::mlp_gaussian((OBS, ACT), &[8], Activation::Relu, (-5.0, 2.0));
    let mut config = TrainerConfig::sac(plain, &[8], BATCH);
    config.policy.body = body;
    config.critic.body = critic;
    config
}

pub(crate) fn sequences(
    mut config: TrainerConfig,
    sequence_len: usize,
    burn_in: usize,
) -> TrainerConfig {
    (config.sequence_len, config.burn_in) = (sequence_len, burn_in);
    config
}

/// Returns small random weights, masks of zeros and ones, and statistics that change nothing: mean 0, deviation 1.
pub(crate) fn drawn(layout: &TensorLayout, rng: &mut Pcg64) -> Vec<f32> {
    let mut params = normals(rng, layout.parameters);
    for entry in &layout.entries {
        for value in &mut params[entry.range()] {
            *value = match entry.name.as_str() {
                "normaliser.mean" => 0.0,
                "normaliser.std" => 1.0,
                _ if !entry.trainable => f32::from(u8::from(*value > -0.5)),
                _ => *value * 0.4,
            };
        }
    }
    params
}

pub(crate) fn state(config: &TrainerConfig, rng: &mut Pcg64) -> TrainState {
    let critic = config.critic.tensor_layout();
    let many =
        |rng: &mut Pcg64| (0..config.training.critics).flat_map(|_| drawn(&critic, rng)).collect();
    let actor = drawn(&config.policy.tensor_layout(), rng);
    let (critics, mut targets): (Vec<f32>, Vec<f32>) = (many(rng), many(rng));
    for (n, entry) in
        (0..config.training.critics).flat_map(|n| critic.entries.iter().map(move |e| (n, e)))
    {
        if !entry.trainable {
            // A target network has the same wiring as its critic.
            let start = n * critic.parameters;
            let range = start + entry.offset..start + entry.offset + entry.elements();
            targets[range.clone()].copy_from_slice(&critics[range]);
        }
    }
    let copies = config.training.target_actor == TargetActor::Copy;
    TrainState {
        target_actor: if copies { actor.clone() } else { Vec::new() },
        actor: group(actor),
        critics: group(critics),
        targets,
        log_alpha: group(vec![-0.5]),
        ..TrainState::default()
    }
}

/// A batch, its noise and its step sizes, with owned data.
#[derive(Clone, Default)]
pub(crate) struct Step {
    pub(crate) obs: Vec<f32>,
    pub(crate) action: Vec<f32>,
    pub(crate) reward: Vec<f32>,
    pub(crate) discount: Vec<f32>,
    pub(crate) next_obs: Vec<f32>,
    pub(crate) state: Vec<f32>,
    pub(crate) next_state: Vec<f32>,
    pub(crate) valid: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    /// Empty unless a test fills it.
    pub(crate) horizon_cost: Vec<f32>,
    pub(crate) next_action_noise: Vec<f32>,
    pub(crate) action_noise: Vec<f32>,
    pub(crate) extra_noise: Vec<f32>,
    pub(crate) sizes: StepSizes,
}

impl Step {
    pub(crate) fn draw(
        config: &TrainerConfig,
        sizes: learner::trainer::NoiseSizes,
        rng: &mut Pcg64,
    ) -> Self {
        let (steps, s) = (BATCH * config.sequence_len, BATCH * config.policy.state_dim());
        let mut of = |n: usize| normals(rng, n);
        let action = match config.policy.head {
            Head::Categorical => of(steps).iter().map(|x| f32::from(u8::from(*x > 0.0))).collect(),
            _ => of(steps * ACT).iter().map(|x| x.tanh()).collect(),
        };
        Self {
            obs: of(steps * OBS),
            action,
            reward: of(steps),
            discount: of(steps).iter().map(|x| if *x > 1.0 { 0.0 } else { 0.97 }).collect(),
            next_obs: of(steps * OBS),
            state: of(s).iter().map(|x| 0.3 * x).collect(),
            next_state: of(if config.sequence_len == 1 { s } else { 0 }),
            valid: if config.sequence_len == 1 { Vec::new() } else { vec![1.0; steps] },
            weight: of(BATCH).iter().map(|x| 1.0 / (1.0 + x.abs())).collect(),
            next_action_noise: of(sizes.next_action),
            action_noise: of(sizes.action),
            extra_noise: of(sizes.extra),
            horizon_cost: Vec::new(),
            sizes: config.step_sizes(),
        }
    }

    /// Does one update and returns |td|.
    pub(crate) fn take(&self, trainer: &mut dyn Trainer) -> Vec<f32> {
        trainer.update(&self.batch(), &self.noise(), &self.sizes).unwrap();
        let mut td_abs = vec![0.0; BATCH];
        trainer.pop_td_abs(&mut td_abs).unwrap();
        td_abs
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            obs: &self.obs,
            action: &self.action,
            reward: &self.reward,
            discount: &self.discount,
            next_obs: &self.next_obs,
            state: &self.state,
            next_state: &self.next_state,
            valid: &self.valid,
            weight: &self.weight,
            horizon_cost: &self.horizon_cost,
        }
    }

    pub(crate) fn noise(&self) -> Noise<'_> {
        Noise {
            next_action: &self.next_action_noise,
            action: &self.action_noise,
            extra: &self.extra_noise,
        }
    }
}

pub(crate) fn autograd(
    config: &TrainerConfig,
    state: &TrainState,
    device: &str,
) -> AutogradTrainer {
    AutogradTrainer::new(config.clone(), state.clone(), device, 1).unwrap()
}

pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (got - expected).abs();
        let most = tolerance * expected.abs().max(1.0);
        assert!(off <= most, "{what}[{i}]: {got}, expected {expected} (seed {SEED})");
    }
}

pub(crate) fn assert_same_parameters(got: &TrainState, expected: &TrainState, tolerance: f32) {
    assert_close("actor", &got.actor.params, &expected.actor.params, tolerance);
    assert_close("critics", &got.critics.params, &expected.critics.params, tolerance);
    assert_close("targets", &got.targets, &expected.targets, tolerance);
    assert_close("log_alpha", &got.log_alpha.params, &expected.log_alpha.params, tolerance);
}
