//! Golden updates: one model trained through the consecutive updates of a file.

use super::{Names, assert_tensor, ours, tensor, tolerance, values};
use common::policy::arch::Head;
use common::policy::layout::TensorLayout;
use learner::torch::autograd::algorithm::{
    AutogradBatch, AutogradNoise, LearningRule, Losses, Model, UpdateStep,
};
use learner::torch::autograd::bcq::BcqRule;
use learner::torch::autograd::discrete_sac::DiscreteSacRule;
use learner::torch::autograd::lac::LacRule;
use learner::torch::autograd::params::{FlatParams, TrainedParams, Weights};
use learner::torch::autograd::sac::SacRule;
use learner::trainer::{self, PriorityRule, TrainerConfig};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Columns of an update's batch, as named in the files.
pub(crate) struct Columns<'a> {
    pub(crate) obs: &'a Value,
    /// Actions in the critics' units.
    pub(crate) action: &'a Value,
    pub(crate) reward: &'a Value,
    pub(crate) discount: Vec<f64>,
    pub(crate) next_obs: &'a Value,
    /// Policy states before the observation (null in files without it: zeros) and before the next one. `None` for
    /// feed-forward policies.
    pub(crate) states: Option<[&'a Value; 2]>,
    pub(crate) weight: &'a Value,
    pub(crate) horizon_cost: Option<&'a Value>,
}

/// One golden file with the configuration that it trains.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a Value,
    pub(crate) config: TrainerConfig,
    /// Initial temperature, for files whose parameters do not contain one.
    pub(crate) alpha: Option<f64>,
    /// Names of the output layers of policy and critics.
    pub(crate) last: [&'a str; 2],
    /// Numbers of hidden layers of the trunk and of the head, for policy and critics, if heads may have hidden layers.
    pub(crate) heads: Option<[(usize, usize); 2]>,
    pub(crate) tolerances: [(&'static str, f64); 3],
}

impl<'a> Case<'a> {
    /// Creates a case with the file's tolerances for f32.
    pub(crate) fn new(name: &'a str, file: &'a Value, config: TrainerConfig) -> Self {
        let tolerances = ["loss", "grad", "params"].map(|key| (key, tolerance(file, key)));
        let target_entropy = file["config"]["target_entropy"].as_f64();
        let config = TrainerConfig { target_entropy, ..config };
        Self { name, file, config, alpha: None, last: ["logits", "q"], heads: None, tolerances }
    }

    fn tolerance(&self, key: &str) -> f64 {
        self.tolerances.iter().find(|(name, _)| *name == key).unwrap().1
    }

    /// Runs every update and compares losses, priorities, gradients and parameters. Returns the model after the last
    /// update.
    pub(crate) fn check(&self, kind: Kind, columns: &dyn Fn(usize) -> Columns<'a>) -> Model {
        let place = (kind, Device::Cpu);
        let model = Model::new(&self.config, place);
        let config = &self.config;
        let algorithm: Box<dyn LearningRule> = match &config.algorithm {
            trainer::Algorithm::Sac => Box::new(SacRule::new(config, place)),
            trainer::Algorithm::DiscreteSac(loss) => Box::new(DiscreteSacRule::new(config, *loss)),
            trainer::Algorithm::Lac(lac) => Box::new(LacRule::new(config, lac, place)),
            trainer::Algorithm::Bcq(bcq) => Box::new(BcqRule::new(config, bcq).unwrap()),
        };
        self.load(&model);
        let updates = self.file["outputs"]["updates"].as_array().unwrap();
        for (k, expected) in updates.iter().enumerate() {
            let what = format!("{} in {kind:?}, update {k}", self.name);
            let batch = self.batch(&columns(k), kind);
            let before = Moments::of(&model);
            let noise = self.noise(k, kind);
            let step = UpdateStep { number: k as u64 + 1, sizes: config.step_sizes() };
            let losses = algorithm.update(&model, &batch, &noise, &step);
            self.check_losses(&what, &losses, &model, expected);
            if expected["grads"].is_null() && k + 1 < updates.len() {
                continue; // long files leave out some updates
            }
            let (grad, params) = (self.tolerance("grad"), self.tolerance("params"));
            let gradients = before.gradients(&model, config.training.adam_beta1);
            self.compare(&what, &expected["grads"], grad, &|group, n, name| {
                gradients.named(&self.layout(group), group, n, name)
            });
            self.compare(&what, &expected["params_after"], params, &|group, n, name| {
                network(&model, group, n).get(name).shallow_clone()
            });
        }
        model
    }

    fn names(&self, group: &str) -> Names<'a> {
        let [policy, critic] = self.last;
        if matches!(group, "actor" | "target_actor") {
            Names { trunk: "trunk", last: policy }
        } else {
            Names { trunk: "layers", last: critic }
        }
    }

    /// Returns the group, the network's index in it, and our name of a golden tensor.
    fn find(&self, golden: &str) -> Option<(&'static str, usize, String)> {
        if let Some(scalar) = ["log_alpha", "log_lambda"].into_iter().find(|name| *name == golden) {
            return Some((scalar, 0, golden.to_owned()));
        }
        let (role, rest) = golden.split_once('.')?;
        if rest.starts_with("action_") {
            return None;
        }
        let (group, n) = match role {
            "actor" | "perturbation" => ("actor", 0),
            "target_actor" | "perturbation_target" => ("target_actor", 0),
            "vae" => ("vae", 0),
            "critic1" => ("critics", 0),
            "critic2" => ("critics", 1),
            "target1" => ("targets", 0),
            "target2" => ("targets", 1),
            role => panic!("role {role}"),
        };
        let layout = self.layout(group);
        let name = self.in_head(rest, group).or_else(|| renamed(rest, self.names(group)));
        let name = name.unwrap_or_else(|| panic!("{golden}"));
        // The last of `layers.{i}` in a policy or critic is its head.
        let name = if layout.entry(&name).is_some() || group != "actor" {
            name
        } else {
            let field = name.rsplit_once('.').unwrap().1;
            format!("{}.{field}", self.names(group).last)
        };
        assert!(layout.entry(&name).is_some(), "{golden} is {name}, which is in no layout");
        Some((group, n, name))
    }

    /// Renames a layer after the trunk, `last.model.{2i}`, if heads may have hidden layers.
    fn in_head(&self, golden: &str, group: &str) -> Option<String> {
        let [actor, critic] = self.heads?;
        let (k, field) = golden.strip_prefix("last.model.")?.split_once('.')?;
        let i = k.parse::<usize>().ok()? / 2; // every other module is an activation
        let Names { trunk, last } = self.names(group);
        let (first, own) = if group == "actor" { actor } else { critic };
        let layer = format!("{trunk}.{}", first + i);
        Some(format!("{}.{field}", if i == own { last } else { &layer }))
    }

    fn layout(&self, group: &str) -> TensorLayout {
        match group {
            "actor" => self.config.actor_layout(),
            "target_actor" => self.config.target_actor_layout(),
            "vae" => self.config.vae_layout(),
            "critics" | "targets" => self.config.critic.tensor_layout(),
            "log_lambda" => self.config.log_lambda_layout(),
            _ => self.config.log_alpha_layout(),
        }
    }

    fn load(&self, model: &Model) {
        let alpha = self.alpha.unwrap_or(1.0).ln();
        let _filled = model.log_alpha.values().flat().shallow_clone().fill_(alpha);
        let fixed = self.file["params"]["log_alpha"].is_null();
        let mut loaded = if fixed { self.layout("log_alpha").entries.len() } else { 0 };
        for (golden, value) in self.file["params"].as_object().unwrap() {
            let Some((group, n, name)) = self.find(golden) else { continue };
            let to = network(model, group, n).get(&name).shallow_clone();
            to.shallow_clone().copy_(&tensor(value, Kind::Double).reshape(to.size().as_slice()));
            loaded += 1;
        }
        let entries = |group: &str| self.layout(group).entries.len();
        let once = ["actor", "target_actor", "vae", "log_alpha", "log_lambda"].map(entries);
        let expected =
            once.iter().sum::<usize>() + 2 * self.config.training.critics * entries("critics");
        assert_eq!(loaded, expected, "{}: tensors in the file", self.name);
    }

    fn batch(&self, columns: &Columns<'_>, kind: Kind) -> AutogradBatch {
        let b = i64::try_from(self.config.training.batch_size).unwrap();
        let steps = |x: Tensor| x.reshape([b, 1, -1]).to_kind(kind);
        let numbers = |value: &Value| tensor(value, Kind::Double).reshape([b, 1]).to_kind(kind);
        let given = |value: &Value| tensor(value, Kind::Double);
        let discrete = self.config.policy.head == Head::Categorical;
        let mut action = steps(given(columns.action));
        if self.config.training.critic_action_units == trainer::ActionUnits::Env && !discrete {
            // The files store actions in the critics' units. Our rows hold normalised actions.
            let vector = |x: &[f32]| Tensor::from_slice(x).to_kind(kind);
            let bias = vector(&self.config.action_bias);
            action = (action - bias) / vector(&self.config.action_scale);
        }
        let states = columns.states.map_or_else(
            || [0, 1].map(|_| Tensor::zeros([b, 0], (kind, Device::Cpu))),
            |[before, next]| {
                let next = given(next).to_kind(kind);
                let absent = before.is_null();
                [if absent { &next * 0.0 } else { given(before).to_kind(kind) }, next]
            },
        );
        let [state, next_state] = states;
        let ones = Tensor::ones([b, 1], (kind, Device::Cpu));
        AutogradBatch {
            burn_in: 0,
            obs: steps(given(columns.obs)),
            action,
            reward: numbers(columns.reward),
            discount: Tensor::from_slice(&columns.discount).reshape([b, 1]).to_kind(kind),
            next_obs: steps(given(columns.next_obs)),
            state,
            next_state,
            valid: ones.shallow_clone(),
            horizon_cost: columns
                .horizon_cost
                .map_or_else(|| Tensor::zeros([b, 0], (kind, Device::Cpu)), numbers),
            weight: if columns.weight.is_null() { ones } else { numbers(columns.weight) },
        }
    }

    /// Returns the noise of update `k`. The file has two noises for each update, but three for LAC (next action,
    /// action, extra) and for BCQ (extra, next action, action). For sampled discrete actions, the normals are made so
    /// that they draw the given index.
    fn noise(&self, k: usize, kind: Kind) -> AutogradNoise {
        let none = || Tensor::zeros([0], (kind, Device::Cpu));
        let noise = self.file["noise"].as_array().unwrap();
        let discrete = self.config.policy.head == Head::Categorical;
        let drawn = |i: usize| match noise.get(i) {
            None => none(),
            Some(index) if discrete => {
                let a = i64::try_from(self.config.policy.act_dim).unwrap();
                tensor(index, Kind::Int64).one_hot(a).to_kind(kind) * 10.0 - 5.0
            }
            Some(normals) => {
                let b = i64::try_from(self.config.training.batch_size).unwrap();
                tensor(normals, Kind::Double).to_kind(kind).reshape([b, 1, -1])
            }
        };
        let [next_action, action, extra] = match self.config.algorithm {
            trainer::Algorithm::Lac(_) => [0, 1, 2].map(|i| drawn(3 * k + i)),
            trainer::Algorithm::Bcq(_) => [1, 2, 0].map(|i| drawn(3 * k + i)),
            _ => [drawn(2 * k), drawn(2 * k + 1), none()],
        };
        AutogradNoise { next_action, action, extra }
    }

    fn check_losses(&self, what: &str, losses: &Losses, model: &Model, expected: &Value) {
        let loss = self.tolerance("loss");
        let check = |key: &str, got: &Tensor| {
            if !expected[key].is_null() {
                assert_tensor(&format!("{what}, {key}"), got, &expected[key], loss);
            }
        };
        check("critic1_loss", &losses.critics.get(0));
        if losses.critics.size()[0] > 1 {
            check("critic2_loss", &losses.critics.get(1));
        }
        check("critic_loss", &losses.critics.sum(None));
        check("actor_loss", &losses.actor);
        if let Some(alpha_loss) = &losses.alpha_loss {
            check("alpha_loss", alpha_loss);
        }
        // The files contain both multipliers after their steps.
        check("alpha", &model.log_alpha.values().flat().exp());
        check("labda", &model.log_lambda.values().flat().exp().clamp_max(1.0));
        if let Some(entropy) = &losses.entropy
            && (expected["entropy"].is_number() || expected["entropy"]["shape"] == json!([]))
        {
            check("entropy", entropy);
        }
        if let Some(extra_loss) = &losses.extra_loss {
            check("lambda_loss", extra_loss);
            check("vae_loss", extra_loss);
        }
        check("priority_mean_abs_td", &losses.td_abs);
        let td = |key: &str| tensor(&expected[key], Kind::Double);
        let absolute = if !expected["td1"].is_null() {
            let td = Tensor::stack(&[td("td1"), td("td2")], 0);
            match self.config.training.priority_rule {
                PriorityRule::MeanAbs => td.abs().mean_dim(0, false, None::<Kind>),
                PriorityRule::AbsMean => td.mean_dim(0, false, None::<Kind>).abs(),
            }
        } else if !expected["mean_signed_td"].is_null() {
            assert_eq!(self.config.training.priority_rule, PriorityRule::AbsMean);
            td("mean_signed_td").abs()
        } else if !expected["abs_td"].is_null() {
            td("abs_td").mean_dim(0, false, None::<Kind>)
        } else {
            return;
        };
        let pairs = values(&losses.td_abs).into_iter().zip(values(&absolute));
        for (got, expected) in pairs {
            let off = (got - expected).abs();
            assert!(off <= loss * expected.max(1.0), "{what}: |td| {got}, expected {expected}");
        }
    }

    fn compare(
        &self,
        what: &str,
        expected: &Value,
        tolerance: f64,
        got: &dyn Fn(&str, usize, &str) -> Tensor,
    ) {
        for (golden, value) in expected.as_object().unwrap() {
            let Some((group, n, name)) = self.find(golden) else { continue };
            assert_tensor(&format!("{what}, {golden}"), &got(group, n, &name), value, tolerance);
        }
    }
}

/// Renames like [`ours`], and also the layer names of the Lyapunov and the batch-constrained originals.
pub(crate) fn renamed(golden: &str, names: Names<'_>) -> Option<String> {
    let Some((stem, field)) = golden.rsplit_once('.') else { return ours(golden, names) };
    let counted = [
        ("net.", names.trunk),
        ("L.", names.trunk),
        ("encoder.model.", "encoder"),
        ("decoder.model.", "decoder"),
        ("preprocess_net.model.model.", "perturbation"),
    ];
    let layer = counted.iter().find_map(|(prefix, name)| {
        let module = stem.strip_prefix(prefix)?.parse::<usize>().ok()?;
        Some(format!("{name}.{}.{field}", module / 2)) // every other module is an activation
    });
    layer.or_else(|| match stem {
        "mu_layer" => Some(format!("mu.{field}")),
        "log_std_layer" => Some(format!("log_std.{field}")),
        _ => ours(golden, names),
    })
}

fn network<'a>(model: &'a Model, group: &str, n: usize) -> &'a Weights {
    let values: &FlatParams = match group {
        "actor" => model.actor.values(),
        "target_actor" => &model.target_actor,
        "vae" => model.vae.values(),
        "log_lambda" => model.log_lambda.values(),
        "critics" => model.critics.values(),
        "targets" => &model.targets,
        _ => model.log_alpha.values(),
    };
    &values.networks()[n]
}

/// First moments of the five optimiser groups, flat.
struct Moments([Vec<f64>; 5]);

impl Moments {
    fn of(model: &Model) -> Self {
        let first = |params: &TrainedParams| values(params.moments().0);
        let Model { actor, critics, vae, log_alpha, log_lambda, .. } = model;
        Self([actor, critics, vae, log_alpha, log_lambda].map(first))
    }

    /// Recovers g = (m_k − β1 m_{k−1}) / (1 − β1). In f32 the division magnifies rounding tenfold, to about 1e-6 for a
    /// gradient of order one. This is below the files' tolerances, so they are used unchanged.
    fn gradients(&self, model: &Model, beta1: f64) -> Self {
        let Self(mut after) = Self::of(model);
        for (after, before) in after.iter_mut().zip(&self.0) {
            for (m, before) in after.iter_mut().zip(before) {
                *m = (*m - beta1 * before) / (1.0 - beta1);
            }
        }
        Self(after)
    }

    fn named(&self, layout: &TensorLayout, group: &str, n: usize, name: &str) -> Tensor {
        let Self([actor, critics, vae, log_alpha, log_lambda]) = self;
        let flat = match group {
            "actor" => actor,
            "critics" => critics,
            "vae" => vae,
            "log_lambda" => log_lambda,
            _ => log_alpha,
        };
        let range = layout.entry(name).unwrap().range();
        let start = n * layout.parameters;
        Tensor::from_slice(&flat[start + range.start..start + range.end])
    }
}
