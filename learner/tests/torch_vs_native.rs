//! The two backends check each other: the same state, batches and noise give the same parameters.
//!
//! Each test runs on the CPU and, if there is one, on a CUDA device.

use common::policy::arch::{Activation, PolicyArch};
use learner::init;
use learner::native::NativeTrainer;
use learner::torch::TorchTrainer;
use learner::trainer::{
    ActionUnits, AlphaLoss, Batch, Noise, TrainState, Trainer, TrainerConfig, TrainerError,
};
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64;
use std::io::Write as _;

/// Tolerance of the parameters after [`UPDATES`] updates: f32 rounding, amplified by Adam's division by the gradient's
/// magnitude.
const TOLERANCE: f32 = 1e-4;
const UPDATES: usize = 100;
const SEED: u64 = 20;
const OBS: usize = 5;
const ACT: usize = 3;
const BATCH: usize = 32;

fn config(units: ActionUnits, activation: Activation) -> TrainerConfig {
    TrainerConfig {
        action_scale: vec![2.0, 0.5, 1.5],
        action_bias: vec![0.0, 0.25, -1.0],
        target_entropy: Some(-3.0),
        ..TrainerConfig::sac(
            PolicyArch::mlp_gaussian((OBS, ACT), &[24, 16], activation, (-20.0, 2.0)),
            &[20, 12],
            BATCH,
        )
    }
    .with(|training| {
        training.critic_loss_factor = 0.5;
        training.critic_action_units = units;
        training.log_prob_units = units;
        training.alpha_loss =
            if units == ActionUnits::Env { AlphaLoss::Exp } else { AlphaLoss::Log };
        training.lr_actor = 3e-4;
        training.lr_critic = 1e-3;
        training.lr_alpha = 5e-4;
        training.adam_eps = 1e-8;
        training.tau = 0.005;
        training.alpha_init = 0.5;
    })
}

/// A batch and its noise, with owned data.
struct Step {
    columns: [Vec<f32>; 6],
    noise: [Vec<f32>; 2],
}

impl Step {
    fn draw(rng: &mut Pcg64) -> Self {
        let mut normals =
            |n: usize| -> Vec<f32> { (0..n).map(|_| StandardNormal.sample(rng)).collect() };
        let action = normals(BATCH * ACT).iter().map(|a: &f32| a.tanh()).collect();
        let discount = normals(BATCH).iter().map(|d| if *d > 1.0 { 0.0 } else { 0.97 }).collect();
        let weight = normals(BATCH).iter().map(|w| 1.0 / (1.0 + w.abs())).collect();
        Self {
            columns: [
                normals(BATCH * OBS),
                action,
                normals(BATCH),
                discount,
                normals(BATCH * OBS),
                weight,
            ],
            noise: [normals(BATCH * ACT), normals(BATCH * ACT)],
        }
    }

    /// Does one update and returns |td|.
    fn take(&self, trainer: &mut dyn Trainer) -> Vec<f32> {
        let [obs, action, reward, discount, next_obs, weight] =
            self.columns.each_ref().map(Vec::as_slice);
        let batch = Batch { obs, action, reward, discount, next_obs, weight, ..Batch::default() };
        let [next_action, action] = self.noise.each_ref().map(Vec::as_slice);
        let sizes = config(ActionUnits::Normalised, Activation::Relu).step_sizes();
        trainer.update(&batch, &Noise { next_action, action, extra: &[] }, &sizes).unwrap();
        let mut td_abs = vec![0.0; BATCH];
        trainer.pop_td_abs(&mut td_abs).unwrap();
        td_abs
    }
}

fn devices(test: &str) -> Vec<&'static str> {
    if tch::Cuda::is_available() {
        vec!["cpu", "cuda:0"]
    } else {
        #[expect(clippy::explicit_write, reason = "the harness hides what a passing test eprints")]
        writeln!(std::io::stderr(), "SKIPPED (no CUDA device): {test} on cuda:0").unwrap();
        vec!["cpu"]
    }
}

fn vectors(state: &TrainState) -> [(&'static str, &[f32]); 10] {
    let TrainState { actor, critics, targets, log_alpha, .. } = state;
    [
        ("actor", &actor.params),
        ("actor.adam_m", &actor.adam_m),
        ("actor.adam_v", &actor.adam_v),
        ("critics", &critics.params),
        ("critics.adam_m", &critics.adam_m),
        ("critics.adam_v", &critics.adam_v),
        ("targets", targets),
        ("log_alpha", &log_alpha.params),
        ("log_alpha.adam_m", &log_alpha.adam_m),
        ("log_alpha.adam_v", &log_alpha.adam_v),
    ]
}

#[track_caller]
fn assert_states_near(ours: &TrainState, theirs: &TrainState, tolerance: f32) {
    assert_eq!(ours.updates, theirs.updates);
    for ((name, ours), (_, theirs)) in vectors(ours).into_iter().zip(vectors(theirs)) {
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{name} differ by {worst:e} (seed {SEED})");
    }
}

#[test]
fn a_hundred_updates_end_at_the_same_parameters() {
    for device in devices("a_hundred_updates_end_at_the_same_parameters") {
        for (units, activation) in
            [(ActionUnits::Normalised, Activation::Relu), (ActionUnits::Env, Activation::Tanh)]
        {
            let mut rng = Pcg64::seed_from_u64(SEED);
            let config = config(units, activation);
            let state = init::train_state(&config, &mut rng);
            let mut native = NativeTrainer::new(config.clone(), state.clone(), 1).unwrap();
            let mut torch = TorchTrainer::new(config, state.clone(), device, 1).unwrap();
            for update in 0..UPDATES {
                let step = Step::draw(&mut rng);
                let (ours, theirs) = (step.take(&mut torch), step.take(&mut native));
                for (row, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                    let error = (ours - theirs).abs();
                    assert!(error < 1e-3, "|td| of row {row} of update {update} is off by {error}");
                }
            }
            assert_states_near(&torch.state(), &native.state(), TOLERANCE);
            let moved = state.actor.params[0] - native.state().actor.params[0];
            assert!(moved.abs() > TOLERANCE, "the actor hardly moved: {moved}");

            let (ours, theirs) = (torch.take_stats(), native.take_stats());
            assert_eq!(ours.updates, theirs.updates);
            for (what, ours, theirs) in [
                ("critic1_loss", ours.critic1_loss, theirs.critic1_loss),
                ("critic2_loss", ours.critic2_loss, theirs.critic2_loss),
                ("actor_loss", ours.actor_loss, theirs.actor_loss),
                ("alpha_loss", ours.alpha_loss, theirs.alpha_loss),
                ("alpha", ours.alpha, theirs.alpha),
                ("entropy", ours.entropy, theirs.entropy),
                ("q_mean", ours.q_mean, theirs.q_mean),
            ] {
                assert!((ours - theirs).abs() < 1e-4, "{what}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn either_backend_goes_on_from_the_others_state() {
    for device in devices("either_backend_goes_on_from_the_others_state") {
        let mut rng = Pcg64::seed_from_u64(SEED);
        let config = config(ActionUnits::Normalised, Activation::Relu);
        let state = init::train_state(&config, &mut rng);
        let mut native = NativeTrainer::new(config.clone(), state.clone(), 1).unwrap();
        let mut torch = TorchTrainer::new(config, state, device, 1).unwrap();
        let steps: Vec<_> = (0..20).map(|_| Step::draw(&mut rng)).collect();
        for step in &steps[..10] {
            step.take(&mut native);
        }
        torch.load(&native.state()).unwrap();
        assert_eq!(torch.state(), native.state());
        for step in &steps[10..] {
            step.take(&mut torch);
        }
        native.load(&torch.state()).unwrap();
        assert_eq!(torch.state(), native.state());
        let last = Step::draw(&mut rng);
        last.take(&mut torch);
        last.take(&mut native);
        assert_states_near(&torch.state(), &native.state(), 1e-6);
    }
}

#[test]
fn resuming_gives_the_same_bits() {
    let mut rng = Pcg64::seed_from_u64(SEED);
    let config = config(ActionUnits::Normalised, Activation::Relu);
    let state = init::train_state(&config, &mut rng);
    let mut first = TorchTrainer::new(config.clone(), state, "cpu", 1).unwrap();
    for _ in 0..10 {
        Step::draw(&mut rng).take(&mut first);
    }
    let mut resumed = TorchTrainer::new(config, first.state(), "cpu", 1).unwrap();
    let next = Step::draw(&mut rng);
    assert_eq!(next.take(&mut first), next.take(&mut resumed));
    assert_eq!(first.state(), resumed.state());
}

#[test]
fn a_fixed_temperature_stays() {
    for device in devices("a_fixed_temperature_stays") {
        let mut rng = Pcg64::seed_from_u64(SEED);
        let config = TrainerConfig {
            target_entropy: None,
            ..config(ActionUnits::Normalised, Activation::Relu)
        };
        let state = init::train_state(&config, &mut rng);
        let mut torch = TorchTrainer::new(config, state.clone(), device, 1).unwrap();
        Step::draw(&mut rng).take(&mut torch);
        assert_eq!(torch.state().log_alpha, state.log_alpha);
        assert_eq!(torch.take_stats().alpha_loss, 0.0);
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let mut rng = Pcg64::seed_from_u64(SEED);
    let config = config(ActionUnits::Normalised, Activation::Relu);
    let state = init::train_state(&config, &mut rng);
    let mut torch = TorchTrainer::new(config.clone(), state.clone(), "cpu", 1).unwrap();

    let mut foreign = state.clone();
    foreign.critics.adam_v.pop();
    foreign.actor.params[0] = 9.0;
    let refused = torch.load(&foreign).unwrap_err().to_string();
    assert!(refused.starts_with("critics.adam_v has "), "{refused}");

    let step = Step::draw(&mut rng);
    let [obs, action, reward, discount, next_obs, weight] =
        step.columns.each_ref().map(Vec::as_slice);
    let batch = Batch {
        obs,
        action,
        reward,
        discount,
        next_obs: &next_obs[1..],
        weight,
        ..Batch::default()
    };
    let noise = Noise { next_action: &step.noise[0], action: &step.noise[1], extra: &[] };
    let refused = torch.update(&batch, &noise, &config.step_sizes()).unwrap_err().to_string();
    assert_eq!(refused, "next_obs has 159 elements, expected 160");
    assert_eq!(torch.state(), state);

    let nothing = torch.pop_td_abs(&mut [0.0; BATCH]).unwrap_err().to_string();
    assert_eq!(nothing, "cpu: |td| asked for without an update");

    for device in ["gpu", "cuda", "cuda:", "cuda:-1", "cuda:4096"] {
        let refused = TorchTrainer::new(config.clone(), state.clone(), device, 1).unwrap_err();
        assert!(matches!(refused, TrainerError::Device { device: named, .. } if named == device));
    }
}
