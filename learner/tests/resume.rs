//! A checkpoint is complete, exact, and refused when it is damaged or foreign.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use common::ids::PolicyVersion;
use common::policy::arch::{Activation, PolicyArch};
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use learner::checkpoint::{Checkpoint, load, newest, prune, save};
use learner::init::train_state;
use learner::native::NativeTrainer;
use learner::trainer::{ActionUnits, AlphaLoss, Batch, Noise, TrainState, Trainer, TrainerConfig};
use learner::training_loop::{NOISE, fill_normal};
use rand_pcg::Pcg64;
use std::collections::BTreeMap;
use std::path::Path;

fn config(hidden: usize) -> TrainerConfig {
    TrainerConfig {
        critic_loss_factor: 1.0,
        critic_action_units: ActionUnits::Normalised,
        log_prob_units: ActionUnits::Normalised,
        alpha_loss: AlphaLoss::Log,
        action_scale: vec![1.0; 2],
        action_bias: vec![0.0; 2],
        lr_actor: 1e-3,
        lr_critic: 1e-3,
        lr_alpha: 1e-3,
        adam_eps: 1e-8,
        tau: 0.005,
        target_entropy: Some(-2.0),
        alpha_init: 1.0,
        ..TrainerConfig::sac(
            PolicyArch::mlp_gaussian((3, 2), &[hidden; 2], Activation::Relu, (-20.0, 2.0)),
            &[hidden; 2],
            16,
        )
    }
}

/// One update with noise from `noise` on a batch that depends on `seed` alone.
fn update(trainer: &mut dyn Trainer, noise: &mut Pcg64, seed: u64) {
    let mut rng = Pcg64::new(seed.into(), 3);
    let normal = |n: usize, rng: &mut Pcg64| {
        let mut values = vec![0.0; n];
        fill_normal(&mut values, rng);
        values
    };
    let (obs, action, next_obs) =
        (normal(48, &mut rng), normal(32, &mut rng), normal(48, &mut rng));
    let (reward, discount, weight) = (normal(16, &mut rng), vec![0.99; 16], vec![1.0; 16]);
    let (next_action, own) = (normal(32, noise), normal(32, noise));
    let batch = Batch {
        obs: &obs,
        action: &action,
        reward: &reward,
        discount: &discount,
        next_obs: &next_obs,
        weight: &weight,
        ..Batch::default()
    };
    trainer.update(&batch, &Noise { next_action: &next_action, action: &own, extra: &[] }).unwrap();
    trainer.pop_td_abs(&mut [0.0; 16]).unwrap();
}

fn trained(updates: u64) -> (TrainerConfig, TrainState, Pcg64) {
    let (config, mut noise) = (config(8), Pcg64::new(5, 5));
    let state = train_state(&config, &mut Pcg64::new(1, 1));
    let mut trainer = NativeTrainer::new(config.clone(), state, 1).unwrap();
    (0..updates).for_each(|k| update(&mut trainer, &mut noise, k));
    (config, trainer.state(), noise)
}

fn saved(dir: &Path) -> (TrainerConfig, Checkpoint, std::path::PathBuf) {
    let (config, state, noise) = trained(7);
    let checkpoint = Checkpoint {
        state,
        policy_version: PolicyVersion(3),
        counters: BTreeMap::from([("samples".into(), 112)]),
        generators: BTreeMap::from([(NOISE.into(), SavedRng::save(&noise))]),
    };
    let path = save(dir, &checkpoint, &config, "[run]\nseed = 1\n", &Clock::system()).unwrap();
    (config, checkpoint, path)
}

#[test]
fn the_next_update_after_a_resume_is_the_same_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (config, checkpoint, path) = saved(dir.path());
    let read = load(&path, &config).unwrap();
    assert_eq!(read, checkpoint);
    let mut resumed = NativeTrainer::new(config.clone(), read.state, 2).unwrap();
    let mut noise = read.generators[NOISE].restore();
    let (_, state, mut expected_noise) = trained(7);
    let mut went_on = NativeTrainer::new(config, state, 1).unwrap();
    for k in 7..10 {
        update(&mut resumed, &mut noise, k);
        update(&mut went_on, &mut expected_noise, k);
        assert_eq!(resumed.state(), went_on.state(), "update {k}");
    }
    assert_eq!(resumed.state().updates, 10);
}

#[test]
fn every_damaged_byte_is_noticed_and_the_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _, path) = saved(dir.path());
    for name in ["state.safetensors", "policy.safetensors", "config.toml"] {
        let file = path.join(name);
        let whole = std::fs::read(&file).unwrap();
        let positions = (0..whole.len()).step_by(whole.len() / 23 + 1);
        for at in positions {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, &damaged).unwrap();
            let error = load(&path, &config).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("damaged"), "{error}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert!(load(&path, &config).is_err(), "{name} cut at {at}");
        }
        std::fs::write(&file, &whole).unwrap();
    }
    std::fs::write(path.join("manifest.json"), "{\"format\": 1").unwrap();
    assert!(load(&path, &config).unwrap_err().to_string().contains("manifest.json"));
}

#[test]
fn a_checkpoint_of_another_network_is_refused_by_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, path) = saved(dir.path());
    let error = load(&path, &config(12)).unwrap_err().to_string();
    assert!(error.contains("does not fit the configuration: actor.trunk.0.weight"), "{error}");
    assert!(error.contains("[8, 3]") && error.contains("[12, 3]"), "{error}");
}

#[test]
fn the_newest_are_kept_and_weights_that_are_not_finite_are_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let (config, mut checkpoint, first) = saved(dir.path());
    for updates in [20, 100] {
        checkpoint.state.updates = updates;
        save(dir.path(), &checkpoint, &config, "", &Clock::system()).unwrap();
    }
    prune(dir.path(), 2).unwrap();
    assert!(!first.exists());
    assert!(newest(dir.path()).unwrap().unwrap().ends_with("update-000000000100"));
    checkpoint.state.updates = 200;
    checkpoint.state.actor.params[0] = f32::NAN;
    assert!(save(dir.path(), &checkpoint, &config, "", &Clock::system()).is_err());
    assert!(newest(dir.path()).unwrap().unwrap().ends_with("update-000000000100"));
}
