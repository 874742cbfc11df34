//! On every backend, a temperature whose target entropy no policy reaches rises to its bound and stays there.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod drawn;
mod native_configs;

use drawn::config;
use learner::native::NativeTrainer;
use learner::trainer::{AlphaLoss, TrainState, Trainer, TrainerConfig};
use native_configs::{discrete, draw};

const ALPHA_MAX: f32 = 1.5;

fn rises_to_its_bound(
    config: TrainerConfig,
    make: impl Fn(TrainerConfig, TrainState) -> Box<dyn Trainer>,
) {
    for alpha_loss in [AlphaLoss::Log, AlphaLoss::Exp] {
        let config =
            TrainerConfig { target_entropy: Some(1000.0), ..config.clone() }.with(|training| {
                training.alpha_max = ALPHA_MAX.into();
                training.lr_alpha = 0.1;
                training.alpha_loss = alpha_loss;
            });
        let drawn = draw(&config, 7);
        let mut trainer = make(config.clone(), drawn.state.clone());
        for _ in 0..30 {
            trainer.update(&drawn.batch(), &drawn.noise(), &config.step_sizes()).unwrap();
            assert!(trainer.state().log_alpha.params[0] <= ALPHA_MAX.ln() + 1e-6, "{alpha_loss:?}");
        }
        let alpha = trainer.state().log_alpha.params[0].exp();
        assert!((alpha - ALPHA_MAX).abs() < 1e-5, "{alpha_loss:?}: {alpha}");
    }
}

#[test]
fn on_the_native_backend() {
    for config in [config(), discrete(config())] {
        rises_to_its_bound(config, |config, state| {
            Box::new(NativeTrainer::new(config, state, 1).unwrap())
        });
    }
}

#[cfg(feature = "torch")]
#[test]
fn on_both_torch_trainers() {
    use learner::torch::{GraphTrainer, TorchTrainer};

    rises_to_its_bound(config(), |config, state| {
        Box::new(TorchTrainer::new(config, state, "cpu", 1).unwrap())
    });
    for config in [config(), discrete(config())] {
        rises_to_its_bound(config, |config, state| {
            Box::new(GraphTrainer::new(config, state, "cpu", 1).unwrap())
        });
    }
}
