//! Every backend refuses an update whose numbers would not be finite. The state stays as it was before the update.

use crate::drawn::{Drawn, config};
use crate::native_configs::{discrete, draw};
use learner::native::NativeTrainer;
use learner::trainer::{Trainer, TrainerConfig, TrainerError};

type Spoil = fn(&mut Drawn);

/// Changes of one number in a batch that make an update impossible.
const SPOILS: [(&str, Spoil); 6] = [
    ("a reward of 1e21", |batch| batch.reward[3] = 1e21),
    ("a reward of 3e38", |batch| batch.reward[3] = 3e38),
    ("an infinite reward", |batch| batch.reward[3] = f32::NEG_INFINITY),
    ("an observation that is no number", |batch| batch.obs[7] = f32::NAN),
    ("an infinite next observation", |batch| batch.next_obs[7] = f32::INFINITY),
    ("an infinite weight", |batch| batch.weight[2] = f32::INFINITY),
];

fn update(
    trainer: &mut dyn Trainer,
    drawn: &Drawn,
    config: &TrainerConfig,
) -> Result<(), TrainerError> {
    trainer.update(&drawn.batch(), &drawn.noise(), &config.step_sizes())?;
    trainer.pop_td_abs(&mut vec![0.0; config.training.batch_size])
}

/// Asserts that `trainer` refuses the spoilt batches and then continues like `twin`, which does not receive them.
fn refuses(config: &TrainerConfig, mut trainer: Box<dyn Trainer>, mut twin: Box<dyn Trainer>) {
    // Clipping makes an infinite next observation finite.
    let clips = config.policy.obs_clip.is_some();
    let spoils = SPOILS.into_iter().filter(|(what, _)| !clips || !what.contains("next"));
    for (k, (what, spoil)) in (0..).zip(spoils) {
        let good = draw(config, 40 + k);
        for trainer in [&mut trainer, &mut twin] {
            update(&mut **trainer, &good, config).unwrap();
        }
        let (before, mut bad) = (trainer.state(), draw(config, 50 + k));
        spoil(&mut bad);
        let refused = update(&mut *trainer, &bad, config).unwrap_err();
        let name = trainer.describe();
        assert!(matches!(refused, TrainerError::NotFinite), "{name}, {what}: {refused}");
        assert_eq!(trainer.state(), before, "{name}, {what}");
    }
    let good = draw(config, 60);
    for trainer in [&mut trainer, &mut twin] {
        update(&mut **trainer, &good, config).unwrap();
    }
    assert_eq!(
        trainer.state(),
        twin.state(),
        "{}: it goes on as if nothing had been",
        trainer.describe()
    );
    assert_eq!(trainer.take_stats(), twin.take_stats());
}

#[test]
fn the_native_backend_keeps_the_state_before() {
    for config in [config(), discrete(config()), fixed_temperature()] {
        let trainer = |threads| {
            let state = draw(&config, 1).state;
            Box::new(NativeTrainer::new(config.clone(), state, threads).unwrap())
        };
        refuses(&config, trainer(2), trainer(1));
    }
}

fn fixed_temperature() -> TrainerConfig {
    TrainerConfig { target_entropy: None, ..config() }
}

#[test]
fn a_temperature_that_no_longer_moves_stays_where_it_is() {
    let config = config();
    let mut trainer = NativeTrainer::new(config.clone(), draw(&config, 1).state, 1).unwrap();
    update(&mut trainer, &draw(&config, 2), &config).unwrap();
    trainer.reconfigure(&fixed_temperature()).unwrap();
    let before = trainer.state().log_alpha;
    update(&mut trainer, &draw(&config, 3), &config).unwrap();
    assert_eq!(trainer.state().log_alpha, before);
}

#[cfg(feature = "torch")]
mod torch {
    use super::*;
    use learner::torch::{AutogradTrainer, TorchTrainer};

    #[test]
    fn libtorch_keeps_the_state_before() {
        for config in [config(), fixed_temperature()] {
            let trainer = || {
                let state = draw(&config, 1).state;
                Box::new(TorchTrainer::new(config.clone(), state, "cpu", 1).unwrap())
            };
            refuses(&config, trainer(), trainer());
        }
    }

    #[test]
    fn autograd_keeps_the_state_before_with_the_statistics_of_observations() {
        let mut normalised = config();
        normalised.policy.obs_clip = Some(10.0);
        for config in [config(), discrete(config()), normalised] {
            let trainer = || {
                let state = draw(&config, 1).state;
                Box::new(AutogradTrainer::new(config.clone(), state, "cpu", 1).unwrap())
            };
            refuses(&config, trainer(), trainer());
        }
    }
}
