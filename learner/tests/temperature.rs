//! On every backend, a temperature whose target entropy no policy reaches moves to one of its bounds and stays there.

use crate::drawn::config;
use crate::native_configs::{discrete, draw};
use learner::native::NativeTrainer;
use learner::trainer::{AlphaLoss, TrainState, Trainer, TrainerConfig};

const ALPHA_MIN: f32 = 0.4;
const ALPHA_MAX: f32 = 1.5;

/// Trains towards an entropy that is too high, then towards one that is too low.
fn moves_to_its_bounds(
    config: TrainerConfig,
    make: impl Fn(TrainerConfig, TrainState) -> Box<dyn Trainer>,
) {
    for alpha_loss in [AlphaLoss::Log, AlphaLoss::Exp] {
        for (target, bound) in [(1000.0, ALPHA_MAX), (-1000.0, ALPHA_MIN)] {
            let what = format!("{alpha_loss:?}, target entropy {target}");
            let config =
                TrainerConfig { target_entropy: Some(target), ..config.clone() }.with(|training| {
                    training.alpha_min = ALPHA_MIN.into();
                    training.alpha_max = ALPHA_MAX.into();
                    training.lr_alpha = 0.1;
                    training.alpha_loss = alpha_loss;
                });
            let drawn = draw(&config, 7);
            let mut trainer = make(config.clone(), drawn.state.clone());
            for _ in 0..30 {
                trainer.update(&drawn.batch(), &drawn.noise(), &config.step_sizes()).unwrap();
                let log_alpha = trainer.state().log_alpha.params[0];
                let bounds = ALPHA_MIN.ln() - 1e-6..=ALPHA_MAX.ln() + 1e-6;
                assert!(bounds.contains(&log_alpha), "{what}: {log_alpha}");
            }
            let alpha = trainer.state().log_alpha.params[0].exp();
            assert!((alpha - bound).abs() < 1e-5, "{what}: {alpha}");
        }
    }
}

#[test]
fn on_the_native_backend() {
    for config in [config(), discrete(config())] {
        moves_to_its_bounds(config, |config, state| {
            Box::new(NativeTrainer::new(config, state, 1).unwrap())
        });
    }
}

#[cfg(feature = "torch")]
#[test]
fn on_both_torch_trainers() {
    use learner::torch::{AutogradTrainer, TorchTrainer};

    moves_to_its_bounds(config(), |config, state| {
        Box::new(TorchTrainer::new(config, state, "cpu", 1).unwrap())
    });
    for config in [config(), discrete(config())] {
        moves_to_its_bounds(config, |config, state| {
            Box::new(AutogradTrainer::new(config, state, "cpu", 1).unwrap())
        });
    }
}
