//! Updates of continuous SAC on every backend, compared with the independent float64 reference: every golden file of
//! kind `sac_update_corrected`.

use crate::golden::{assert_near, floats, numbers, of_kind};
use common::policy::arch::{Activation, PolicyArch};
use learner::init::group;
use learner::native::NativeTrainer;
use learner::trainer::{ActionUnits, AlphaLoss, Batch, Noise, TrainState, Trainer, TrainerConfig};
use serde_json::Value;

type Factory = dyn Fn(TrainerConfig, TrainState) -> Box<dyn Trainer>;

#[test]
fn the_native_backend_follows_the_reference() {
    for threads in [1, 2] {
        check_all(&move |config, state| {
            Box::new(NativeTrainer::new(config, state, threads).unwrap())
        });
    }
}

#[cfg(feature = "torch")]
#[test]
fn the_torch_backend_follows_the_reference() {
    check_all(&|config, state| {
        Box::new(learner::torch::TorchTrainer::new(config, state, "cpu", 1).unwrap())
    });
}

fn check_all(make: &Factory) {
    for (name, file) in of_kind("sac_update_corrected") {
        check(&name, &file, make);
    }
}

fn check(name: &str, file: &Value, make: &Factory) {
    let config = config(&file["config"]);
    let tensors = Tensors::new(&config);
    let mut trainer = make(config.clone(), tensors.state(&file["params"]));
    let tolerance = |key: &str| file["tolerance"][key].as_f64().unwrap();
    let noise: Vec<Vec<f32>> = file["noise"].as_array().unwrap().iter().map(floats).collect();
    let mut before = trainer.state();
    for (k, batch) in file["inputs"]["batches"].as_array().unwrap().iter().enumerate() {
        let expected = &file["outputs"]["updates"][k];
        let mut columns = ["obs", "act", "nstep_reward", "discount", "obs_next", "is_weight"]
            .map(|key| floats(&batch[key]));
        if config.training.critic_action_units == ActionUnits::Env {
            // The files store actions in the critics' units. Our rows hold normalised actions.
            let units = config.action_scale.iter().zip(&config.action_bias).cycle();
            columns[1]
                .iter_mut()
                .zip(units)
                .for_each(|(a, (scale, bias))| *a = (*a - bias) / scale);
        }
        let [obs, action, reward, discount, next_obs, weight] =
            columns.each_ref().map(Vec::as_slice);
        let batch = Batch { obs, action, reward, discount, next_obs, weight, ..Batch::default() };
        let noise = Noise { next_action: &noise[2 * k], action: &noise[2 * k + 1], extra: &[] };
        trainer.update(&batch, &noise, &config.step_sizes()).unwrap();

        let mut td_abs = vec![0.0; config.training.batch_size];
        trainer.pop_td_abs(&mut td_abs).unwrap();
        let what = |part: &str| format!("{name}, update {k}, {part}");
        assert_near(
            &what("|td|"),
            &td_abs,
            &numbers(&expected["priority_mean_abs_td"]),
            tolerance("loss"),
        );
        let stats = trainer.take_stats();
        for (key, got) in [
            ("critic1_loss", stats.critic1_loss),
            ("critic2_loss", stats.critic2_loss),
            ("actor_loss", stats.actor_loss),
            ("alpha_loss", stats.alpha_loss),
        ] {
            assert_near(&what(key), &[got as f32], &numbers(&expected[key]), tolerance("loss"));
        }
        let after = trainer.state();
        // The files contain alpha after the step. The statistics report alpha as used by the update.
        let alpha = after.log_alpha.params[0].exp();
        assert_near(&what("alpha"), &[alpha], &numbers(&expected["alpha"]), tolerance("loss"));
        tensors.compare(
            &what("params"),
            &expected["params_after"],
            tolerance("params"),
            &Values::params(&after),
        );
        // g = (m_k − β1 m_{k−1}) / (1 − β1). The division magnifies rounding tenfold, to about 1e-6 for a gradient of
        // order one. This is below the file's tolerance, so it is used unchanged.
        tensors.compare(
            &what("grads"),
            &expected["grads"],
            tolerance("grad"),
            &Values::gradients(&before, &after),
        );
        before = after;
    }
}

fn config(config: &Value) -> TrainerConfig {
    let number = |key: &str| config[key].as_f64().unwrap();
    let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let widths = |key: &str| config[key].as_array().unwrap().iter().map(size).collect::<Vec<_>>();
    let activation = match config["activation"].as_str().unwrap() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        other => panic!("activation {other}"),
    };
    let choose = |key: &str, choices: &[&str]| {
        let value = config[key].as_str().unwrap();
        choices
            .iter()
            .position(|choice| *choice == value)
            .unwrap_or_else(|| panic!("{key} = {value}"))
    };
    let units = [ActionUnits::Normalised, ActionUnits::Env];
    TrainerConfig {
        action_scale: floats(&config["action_scale"]),
        action_bias: floats(&config["action_bias"]),
        target_entropy: Some(number("target_entropy")),
        ..TrainerConfig::sac(
            PolicyArch::mlp_gaussian(
                (size(&config["obs_dim"]), size(&config["act_dim"])),
                &widths("actor_hidden"),
                activation,
                (number("log_std_min") as f32, number("log_std_max") as f32),
            ),
            &widths("critic_hidden"),
            size(&config["batch"]),
        )
    }
    .with(|training| {
        training.critic_loss_factor = number("critic_loss_factor");
        training.critic_action_units = units[choose("critic_action_space", &["normalised", "env"])];
        training.log_prob_units = units[choose("tanh_correction", &["exact", "exact_with_scale"])];
        training.alpha_loss =
            [AlphaLoss::Log, AlphaLoss::Exp][choose("alpha_loss_form", &["log", "exp"])];
        training.lr_actor = number("lr_actor");
        training.lr_critic = number("lr_critic");
        training.lr_alpha = number("lr_alpha");
        training.adam_eps = number("adam_eps");
        training.tau = number("tau");
        training.alpha_init = 1.0;
    })
}

/// Position of each tensor of the golden files in our flat vectors: (golden name, vector, range).
struct Tensors(Vec<(String, Vector, std::ops::Range<usize>)>);

#[derive(Clone, Copy, PartialEq)]
enum Vector {
    Actor,
    Critics,
    Targets,
    LogAlpha,
}

/// One value per parameter, in the vectors of the state.
struct Values {
    actor: Vec<f32>,
    critics: Vec<f32>,
    targets: Vec<f32>,
    log_alpha: Vec<f32>,
}

impl Values {
    fn params(state: &TrainState) -> Self {
        Self {
            actor: state.actor.params.clone(),
            critics: state.critics.params.clone(),
            targets: state.targets.clone(),
            log_alpha: state.log_alpha.params.clone(),
        }
    }

    fn gradients(before: &TrainState, after: &TrainState) -> Self {
        let gradient = |before: &[f32], after: &[f32]| {
            let each = |(b, a): (&f32, &f32)| ((f64::from(*a) - 0.9 * f64::from(*b)) / 0.1) as f32;
            before.iter().zip(after).map(each).collect::<Vec<f32>>()
        };
        Self {
            actor: gradient(&before.actor.adam_m, &after.actor.adam_m),
            critics: gradient(&before.critics.adam_m, &after.critics.adam_m),
            targets: Vec::new(),
            log_alpha: gradient(&before.log_alpha.adam_m, &after.log_alpha.adam_m),
        }
    }
}

impl Tensors {
    fn new(config: &TrainerConfig) -> Self {
        let mut tensors = Vec::new();
        for entry in config.policy.tensor_layout().entries {
            tensors.push((format!("actor.{}", entry.name), Vector::Actor, entry.range()));
        }
        let critic = config.critic.tensor_layout();
        for (prefix, vector) in [("critic", Vector::Critics), ("target", Vector::Targets)] {
            for twin in 0..2 {
                let shift = twin * critic.parameters;
                for entry in &critic.entries {
                    let range = entry.range().start + shift..entry.range().end + shift;
                    tensors.push((format!("{prefix}{}.{}", twin + 1, entry.name), vector, range));
                }
            }
        }
        tensors.push(("log_alpha".into(), Vector::LogAlpha, 0..1));
        Self(tensors)
    }

    fn state(&self, params: &Value) -> TrainState {
        let fill = |vector: Vector| {
            let mine = || self.0.iter().filter(|(_, v, _)| *v == vector);
            let length = mine().map(|(_, _, range)| range.end).max().unwrap();
            let mut flat = vec![f32::NAN; length];
            for (name, _, range) in mine() {
                flat[range.clone()].copy_from_slice(&floats(&params[name]));
            }
            flat
        };
        TrainState {
            actor: group(fill(Vector::Actor)),
            critics: group(fill(Vector::Critics)),
            targets: fill(Vector::Targets),
            log_alpha: group(fill(Vector::LogAlpha)),
            ..TrainState::default()
        }
    }

    /// Compares every tensor that the file contains. A vector of `got` may be empty (targets have no gradients);
    /// otherwise the file must contain all of its tensors.
    fn compare(&self, what: &str, expected: &Value, tolerance: f64, got: &Values) {
        let mut compared = 0;
        for (name, vector, range) in &self.0 {
            let flat = match vector {
                Vector::Actor => &got.actor,
                Vector::Critics => &got.critics,
                Vector::Targets => &got.targets,
                Vector::LogAlpha => &got.log_alpha,
            };
            if !flat.is_empty() {
                assert_near(
                    &format!("{what} {name}"),
                    &flat[range.clone()],
                    &numbers(&expected[name]),
                    tolerance,
                );
                compared += 1;
            }
        }
        assert_eq!(
            compared,
            expected.as_object().unwrap().len(),
            "{what}: every tensor of the file is compared"
        );
    }
}
