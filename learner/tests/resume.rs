//! A resumed run continues as if it had not been interrupted.

use common::ids::PolicyVersion;
use common::policy::arch::{Activation, PolicyArch};
use common::runtime::clock::Clock;
use common::runtime::seed::SavedRng;
use learner::checkpoint::{Checkpoint, Contents, load, save};
use learner::init::train_state;
use learner::native::NativeTrainer;
use learner::noise::fill_normal;
use learner::trainer::{Batch, Noise, TrainState, Trainer, TrainerConfig};
use learner::updates::NOISE;
use rand_pcg::Pcg64;
use std::collections::BTreeMap;
use std::path::Path;

fn config() -> TrainerConfig {
    let policy = PolicyArch::mlp_gaussian((3, 2), &[8; 2], Activation::Relu, (-20.0, 2.0));
    TrainerConfig::sac(policy, &[8; 2], 16).with(|training| {
        training.lr_actor = 1e-3;
        training.lr_critic = 1e-3;
    })
}

/// Does one update with noise from `noise`, on a batch that depends on `seed` only.
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
    let noise = Noise { next_action: &next_action, action: &own, extra: &[] };
    trainer.update(&batch, &noise, &config().step_sizes()).unwrap();
    trainer.pop_td_abs(&mut [0.0; 16]).unwrap();
}

fn trained(updates: u64) -> (TrainerConfig, TrainState, Pcg64) {
    let (config, mut noise) = (config(), Pcg64::new(5, 5));
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
        losses: BTreeMap::new(),
    };
    let path = save(dir, &checkpoint, &config, &Contents::default(), "", &Clock::system()).unwrap();
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
