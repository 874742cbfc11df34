//! Updates of discrete SAC on the native backend, compared with every golden file of the kinds
//! `discrete_sac_update_corrected` (an independent reference in float64) and `tianshou_discrete_sac_update` (the
//! original in f32, with the same equations).
//!
//! The tolerances are those that the files state for f32: `loss`, `grad` and `params`, all 1e-5, which is also the
//! folder's default. The reference's `f64` tolerance is for programs that compute in f64.

use crate::golden::{assert_near, compared, floats, numbers, of_kind};
use common::policy::arch::{Activation, Body, Head, LastLayers, PolicyArch};
use learner::init::group;
use learner::native::NativeTrainer;
use learner::trainer::{
    Algorithm, Batch, CriticArch, CriticKind, DiscreteLoss, Noise, ParamGroup, TrainState, Trainer,
    TrainerConfig,
};
use serde_json::Value;

#[test]
fn updates_follow_the_reference() {
    for (name, file) in of_kind("discrete_sac_update_corrected") {
        let layers = |widths: &[usize]| (0..=widths.len()).map(|i| format!("layers.{i}")).collect();
        let [actor, critic] = ["actor_hidden", "critic_hidden"].map(|key| {
            let widths = sizes(&file["config"][key]);
            Net { layers: layers(&widths), widths }
        });
        for threads in [1, 2] {
            check(&Case { name: &name, file: &file, actor: &actor, critic: &critic }, threads);
        }
    }
}

#[test]
fn updates_follow_tianshou() {
    for (name, file) in of_kind("tianshou_discrete_sac_update") {
        let config = &file["config"];
        let [actor, critic] = ["actor", "critic"].map(|role| {
            let widths = |key: &str| sizes(&config[format!("{role}_{key}")]);
            let (body, head) = (widths("hidden"), widths("head_hidden"));
            let before = (0..body.len()).map(|i| format!("preprocess.model.model.{}", 2 * i));
            let after = (0..=head.len()).map(|i| format!("last.model.{}", 2 * i));
            Net { layers: before.chain(after).collect(), widths: [body, head].concat() }
        });
        let heads = ["actor_head_hidden", "critic_head_hidden"].map(|key| sizes(&config[key]));
        if heads.concat().is_empty() || config["activation"] == config["head_activation"] {
            for threads in [1, 2] {
                check(&Case { name: &name, file: &file, actor: &actor, critic: &critic }, threads);
            }
        } else {
            // Only the torch backend supports two activations in one network. Its tests compare this file.
            let mut trained =
                Case { name: &name, file: &file, actor: &actor, critic: &critic }.config();
            let CriticArch { body: Body::Mlp(mlp), .. } = &mut trained.critic else {
                unreachable!("one")
            };
            mlp.last = Some(LastLayers { count: 1, activation: Activation::Relu });
            assert!(learner::native::serves(&trained).is_err(), "{name}");
            compared();
        }
    }
}

/// A network of the file: its hidden widths, and the names of its linear layers.
struct Net {
    widths: Vec<usize>,
    layers: Vec<String>,
}

impl Net {
    /// Returns the tensors of this network in a map of the file, in the order of the file and of our layout.
    fn tensors<'a>(&self, role: &str, from: &'a Value) -> Vec<(String, &'a Value)> {
        let names = self
            .layers
            .iter()
            .flat_map(|layer| ["weight", "bias"].map(|tensor| format!("{role}.{layer}.{tensor}")));
        names.map(|name| (name.clone(), &from[&name])).collect()
    }

    fn flat(&self, role: &str, from: &Value) -> Vec<f64> {
        self.tensors(role, from).into_iter().flat_map(|(_, tensor)| numbers(tensor)).collect()
    }
}

struct Case<'a> {
    name: &'a str,
    file: &'a Value,
    actor: &'a Net,
    critic: &'a Net,
}

impl Case<'_> {
    fn config(&self) -> TrainerConfig {
        let config = &self.file["config"];
        let number = |key: &str| config[key].as_f64().unwrap_or(0.0);
        let activation =
            serde_json::from_value::<Activation>(config["activation"].clone()).unwrap();
        let (obs_dim, actions) = (size(&config["obs_dim"]), size(&config["num_actions"]));
        let policy = PolicyArch::mlp_gaussian(
            (obs_dim, actions),
            &self.actor.widths,
            activation,
            (-20.0, 2.0),
        );
        let sac = TrainerConfig::sac(policy, &self.critic.widths, size(&config["batch"]));
        TrainerConfig {
            algorithm: Algorithm::DiscreteSac(DiscreteLoss::Expected),
            policy: PolicyArch { head: Head::Categorical, ..sac.policy },
            critic: CriticArch { kind: CriticKind::VectorQ, ..sac.critic },
            target_entropy: config["target_entropy"].as_f64(),
            ..sac
        }
        .with(|training| {
            training.lr_actor = number("lr_actor");
            training.lr_critic = number("lr_critic");
            training.lr_alpha = number("lr_alpha");
            training.adam_eps = number("adam_eps");
            training.tau = number("tau");
        })
    }

    fn state(&self) -> TrainState {
        let params = &self.file["params"];
        let both = |role: &str| {
            let [one, two] = [1, 2].map(|c| self.critic.flat(&format!("{role}{c}"), params));
            narrow(&[one, two].concat())
        };
        let log_alpha = match self.file["config"]["alpha"].as_f64() {
            Some(alpha) => vec![alpha.ln() as f32],
            None => floats(&params["log_alpha"]),
        };
        TrainState {
            actor: group(narrow(&self.actor.flat("actor", params))),
            critics: group(both("critic")),
            targets: both("target"),
            log_alpha: group(log_alpha),
            ..TrainState::default()
        }
    }

    fn tolerance(&self, key: &str) -> f64 {
        self.file["tolerance"][key].as_f64().unwrap()
    }

    /// Compares actor, critics, temperature and, if they are given, targets with a map of the file. Every tensor of the
    /// map must be compared.
    fn compare(&self, what: &str, tolerance: f64, expected: &Value, got: [&[f32]; 4]) {
        let [actor, critics, targets, log_alpha] = got;
        let mut compared = 0;
        let mut network = |net: &Net, role: String, got: &[f32]| {
            let mut at = 0;
            for (name, tensor) in net.tensors(&role, expected) {
                let tensor = numbers(tensor);
                let range = at..at + tensor.len();
                assert_near(&format!("{what} {name}"), &got[range], &tensor, tolerance);
                (at, compared) = (at + tensor.len(), compared + 1);
            }
            assert_eq!(at, got.len(), "{what} {role}");
        };
        network(self.actor, "actor".to_owned(), actor);
        for (role, both) in [("critic", critics), ("target", targets)] {
            for (i, one) in both.chunks_exact((both.len() / 2).max(1)).enumerate() {
                network(self.critic, format!("{role}{}", i + 1), one);
            }
        }
        if let Some(expected) = expected.get("log_alpha") {
            assert_near(&format!("{what} log_alpha"), log_alpha, &numbers(expected), tolerance);
            compared += 1;
        }
        assert_eq!(
            compared,
            expected.as_object().unwrap().len(),
            "{what}: every tensor of the file"
        );
    }

    /// Returns the mean |Q − y| of each row, computed from the file's parameters before the update and the file's
    /// targets.
    fn td_abs(&self, params: &Value, obs: &[f32], action: &[f32], target: &[f64]) -> Vec<f64> {
        let widths = [
            &[size(&self.file["config"]["obs_dim"])],
            self.critic.widths.as_slice(),
            &[size(&self.file["config"]["num_actions"])],
        ]
        .concat();
        let critics = [1, 2].map(|c| self.critic.flat(&format!("critic{c}"), params));
        let rows = obs.chunks_exact(widths[0]).zip(action).zip(target);
        rows.map(|((obs, action), target)| {
            let td = critics.each_ref().map(|critic| {
                (self.forward(critic, &widths, obs)[*action as usize] - target).abs()
            });
            (td[0] + td[1]) / 2.0
        })
        .collect()
    }

    fn forward(&self, params: &[f64], widths: &[usize], x: &[f32]) -> Vec<f64> {
        let tanh = self.file["config"]["activation"] == "tanh";
        let (mut x, mut rest) = (x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), params);
        for (i, pair) in widths.windows(2).enumerate() {
            let (weights, tail) = rest.split_at(pair[0] * pair[1]);
            let (biases, tail) = tail.split_at(pair[1]);
            rest = tail;
            let sums = weights.chunks_exact(pair[0]).zip(biases).map(|(w, bias)| {
                let sum = bias + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
                match (i + 2 == widths.len(), tanh) {
                    (true, _) => sum,
                    (false, true) => sum.tanh(),
                    (false, false) => sum.max(0.0),
                }
            });
            x = sums.collect();
        }
        x
    }
}

fn check(case: &Case<'_>, threads: usize) {
    let config = case.config();
    let (rows, sizes) = (config.training.batch_size, config.step_sizes());
    let mut trainer = NativeTrainer::new(config, case.state(), threads).unwrap();
    let (mut before, mut params) = (trainer.state(), &case.file["params"]);
    for (k, expected) in case.file["outputs"]["updates"].as_array().unwrap().iter().enumerate() {
        let what = |part: &str| format!("{}, {threads} threads, update {k}, {part}", case.name);
        let batch = match &case.file["inputs"]["batches"][k] {
            Value::Null => &case.file["inputs"]["updates"][k]["resolved"],
            batch => batch,
        };
        let columns =
            ["obs", "act", "nstep_reward", "discount", "obs_next"].map(|key| floats(&batch[key]));
        let weight = match (batch.get("is_weight"), expected.get("is_weights")) {
            (Some(weight), _) | (None, Some(weight)) => floats(weight),
            (None, None) => vec![1.0; rows],
        };
        let [obs, action, reward, discount, next_obs] = columns.each_ref().map(Vec::as_slice);
        let weight = weight.as_slice();
        let batch = Batch { obs, action, reward, discount, next_obs, weight, ..Batch::default() };
        trainer.update(&batch, &Noise::default(), &sizes).unwrap();

        let mut td_abs = vec![0.0; rows];
        trainer.pop_td_abs(&mut td_abs).unwrap();
        let td = case.td_abs(params, obs, action, &numbers(&expected["target"]));
        assert_near(&what("|td|"), &td_abs, &td, case.tolerance("loss"));
        if let Some(td) = expected.get("priority_mean_abs_td") {
            assert_near(&what("priority"), &td_abs, &numbers(td), case.tolerance("loss"));
        }
        let after = trainer.state();
        // The files contain alpha after the step. The statistics report alpha as used by the update.
        let alpha = f64::from(after.log_alpha.params[0].exp());
        let stats = trainer.take_stats();
        let entropy = expected.get("entropy").map(numbers);
        if let Some(entropy) = entropy {
            let mean = entropy.iter().sum::<f64>() / entropy.len() as f64;
            let got = stats.entropy as f32;
            assert_near(&what("entropy"), &[got], &[mean], case.tolerance("loss"));
        }
        for (key, got) in [
            ("critic1_loss", stats.critic1_loss),
            ("critic2_loss", stats.critic2_loss),
            ("actor_loss", stats.actor_loss),
            ("alpha_loss", stats.alpha_loss),
            ("alpha", alpha),
        ] {
            match expected.get(key) {
                Some(loss) => {
                    assert_near(&what(key), &[got as f32], &numbers(loss), case.tolerance("loss"));
                }
                None => assert_eq!((key, got), ("alpha_loss", 0.0), "{}", what("fixed")),
            }
        }
        let moved = [&after.actor, &after.critics, &after.log_alpha].map(|g| g.params.as_slice());
        let now = [moved[0], moved[1], &after.targets, moved[2]];
        case.compare(&what("params"), case.tolerance("params"), &expected["params_after"], now);
        let grads = [
            gradient(&before.actor, &after.actor),
            gradient(&before.critics, &after.critics),
            Vec::new(),
            gradient(&before.log_alpha, &after.log_alpha),
        ];
        let grads = grads.each_ref().map(Vec::as_slice);
        case.compare(&what("grads"), case.tolerance("grad"), &expected["grads"], grads);
        (before, params) = (after, &expected["params_after"]);
    }
}

/// Recovers g = (m_k − β1 m_{k−1}) / (1 − β1). The division magnifies rounding tenfold, to about 1e-6 for a gradient of
/// order one. This is below the file's tolerance, so it is used unchanged.
fn gradient(before: &ParamGroup, after: &ParamGroup) -> Vec<f32> {
    let pairs = before.adam_m.iter().zip(&after.adam_m);
    pairs.map(|(b, a)| ((f64::from(*a) - 0.9 * f64::from(*b)) / 0.1) as f32).collect()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn sizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(size).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
