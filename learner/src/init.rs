//! Initial parameters. The name of a tensor and the scheme in `learner.init` determine the rule by which the tensor is
//! drawn.

use crate::trainer::{Algorithm, Init, Normaliser, ParamGroup, TrainState, TrainerConfig};
use common::policy::arch::Body;
use common::policy::layout::{TensorEntry, TensorLayout};
use common::policy::wiring;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

/// Returns the state before the first update. Every critic is drawn separately, because identical critics would learn
/// the same error (docs/algorithms/shared.md §7). Target networks start as copies of the trained networks.
pub fn train_state(config: &TrainerConfig, rng: &mut Pcg64) -> TrainState {
    let mut networks = 0;
    let mut draw = |layout: &TensorLayout, body: &Body, rng: &mut Pcg64| {
        let mut params = fresh(layout, config.training.init, rng);
        wiring::fill(body, layout, networks, &mut params);
        networks += 1;
        params
    };
    let actor = draw(&config.actor_layout(), &config.policy.body, rng);
    let critic = config.critic.tensor_layout();
    let critics: Vec<f32> = (0..config.training.critics)
        .flat_map(|_| draw(&critic, &config.critic.body, rng))
        .collect();
    let vae = fresh(&config.vae_layout(), config.training.init, rng);
    let lambda = match &config.algorithm {
        Algorithm::Lac(lac) => lac.lambda_init,
        _ => 1.0,
    };
    let scalar = |layout: TensorLayout, start| group(vec![logarithm(start); layout.parameters]);
    let kept = config.target_actor_layout().parameters > 0;
    TrainState {
        target_actor: if kept { actor.clone() } else { Vec::new() },
        actor: group(actor),
        targets: critics.clone(),
        critics: group(critics),
        vae: group(vae),
        log_alpha: scalar(config.log_alpha_layout(), config.training.alpha_init),
        log_lambda: scalar(config.log_lambda_layout(), lambda),
        normaliser: config.policy.obs_clip.map(|_| Normaliser::new(config.policy.obs_dim)),
        updates: 0,
    }
}

/// Returns the logarithm of the initial value of a trained multiplier. Replaces 0 by the smallest normal f32, 1.2e-38,
/// because the logarithm of 0 is not finite.
#[expect(clippy::cast_possible_truncation, reason = "parameters are f32")]
pub fn logarithm(multiplier: f64) -> f32 {
    (multiplier as f32).max(f32::MIN_POSITIVE).ln()
}

/// Returns a group with these parameters and with Adam's moments at zero.
pub fn group(params: Vec<f32>) -> ParamGroup {
    let zeros = vec![0.0; params.len()];
    ParamGroup { adam_m: zeros.clone(), adam_v: zeros, params }
}

/// Draws every trainable tensor of a layout. Masks are 0 until `wiring::fill` sets them. Observation statistics start
/// as if no observation was seen, with mean 0 and deviation 1.
fn fresh(layout: &TensorLayout, init: Init, rng: &mut Pcg64) -> Vec<f32> {
    let mut params = vec![0.0; layout.parameters];
    for entry in &layout.entries {
        let values = &mut params[entry.range()];
        match Rule::of(entry, layout, init) {
            Rule::Fill(value) => values.fill(value),
            Rule::Uniform(bound) => {
                values.iter_mut().for_each(|value| *value = rng.random_range(-bound..bound));
            }
            Rule::Normal { deviation, cut } => values.iter_mut().for_each(|value| {
                *value = deviation * normal_within(cut, rng);
            }),
            Rule::Orthogonal(gain) => orthogonal(values, entry.shape[0], gain, rng),
        }
    }
    params
}

/// Rule by which one tensor is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Fill(f32),
    /// Uniform distribution on (-bound, bound).
    Uniform(f32),
    /// Normal distribution N(0, deviation^2). A value beyond `cut` deviations is drawn again.
    Normal {
        deviation: f32,
        cut: f32,
    },
    /// Orthonormal rows, or orthonormal columns if there are fewer columns than rows, multiplied by the gain.
    Orthogonal(f32),
}

impl Rule {
    fn of(entry: &TensorEntry, layout: &TensorLayout, init: Init) -> Self {
        let (layer, kind) = entry.name.rsplit_once('.').unwrap_or(("", &entry.name));
        match kind {
            "std" | "a" => return Self::Fill(1.0),
            _ if !entry.trainable => return Self::Fill(0.0),
            "weight" if layer.ends_with(".norm") => return Self::Fill(1.0),
            "bias" if layer.ends_with(".norm") => return Self::Fill(0.0),
            // A `log_std` that does not depend on the observation starts at 0, so the deviation starts at 1. A time
            // constant (`w_tau`) starts at 0 (docs/algorithms/shared.md §7).
            "log_std" | "w_tau" => return Self::Fill(0.0),
            _ => {}
        }
        if init == Init::Pytorch {
            return Self::pytorch(entry, layout, layer);
        }
        if entry.shape.len() == 1 {
            return if init == Init::KaimingUniform {
                Self::pytorch(entry, layout, layer)
            } else {
                Self::Fill(0.0)
            };
        }
        let (outputs, inputs) = fans(entry);
        match init {
            Init::Pytorch | Init::KaimingUniform => Self::Uniform(1.0 / inputs.sqrt()),
            Init::Orthogonal => Self::Orthogonal(gain(layer, layout)),
            Init::Xavier => {
                Self::Normal { deviation: (2.0 / (inputs + outputs)).sqrt(), cut: f32::INFINITY }
            }
            Init::Sonar => Self::Uniform(0.006 * (3.0 / inputs).sqrt()),
            Init::TruncNormal => Self::Normal { deviation: 1e-3, cut: 2.0 },
            Init::Zero => Self::Fill(0.0),
        }
    }

    /// Returns the rule that PyTorch uses for this kind of layer. For closed-form cells, returns their own rule
    /// (docs/algorithms/liquid.md §6.4).
    fn pytorch(entry: &TensorEntry, layout: &TensorLayout, layer: &str) -> Self {
        let (outputs, inputs) = fans(entry);
        if let Some("weight_ih" | "weight_hh" | "bias_ih" | "bias_hh") =
            entry.name.rsplit('.').next()
        {
            return Self::Uniform(1.0 / (outputs / 4.0).sqrt());
        }
        let cell = layer.rsplit('.').next().is_some_and(|name| {
            matches!(name, "ff1" | "ff2" | "time_a" | "time_b") || layer.starts_with("backbone.")
        });
        match (layer, entry.shape.len()) {
            ("lstm.recurrent", _) => Self::Orthogonal(1.0),
            ("lstm.input", 1) => Self::Uniform(0.1),
            ("lstm.input", _) => Self::Uniform((6.0 / (inputs + outputs)).sqrt()),
            (_, 2) if cell => Self::Uniform((6.0 / (inputs + outputs)).sqrt()),
            _ => {
                // A bias uses the number of inputs of the weight in the same layer.
                let weight = layout.entry(&format!("{layer}.weight")).unwrap_or(entry);
                Self::Uniform(1.0 / fans(weight).1.sqrt())
            }
        }
    }
}

/// Returns the numbers of outputs and inputs of a weight with shape (out, in, ..).
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn fans(entry: &TensorEntry) -> (f32, f32) {
    let inputs: usize = entry.shape[1..].iter().product();
    (entry.shape[0] as f32, inputs as f32)
}

/// Returns the gain of orthogonal weights (docs/algorithms/shared.md §7). The gain is sqrt 2 for convolutions and for
/// the hidden layers of perceptrons. It is 0.01 for the policy's heads, so that the policy starts near uniform, and for
/// every other layer named `log_std`. It is 1 for all other layers, among them the critics' heads and wired and
/// recurrent layers.
fn gain(layer: &str, layout: &TensorLayout) -> f32 {
    if matches!(layer, "mu" | "log_std" | "logits" | "action") {
        return 0.01;
    }
    const STACKS: [&str; 6] = ["trunk", "layers", "conv", "encoder", "decoder", "perturbation"];
    let Some((stack, i)) = layer.rsplit_once('.') else { return 1.0 };
    let hidden = STACKS.contains(&stack);
    // In `layers`, `decoder` and `perturbation`, the last layer is the output layer, which has no activation. An
    // exception is a Lyapunov critic, which has no output layer: the last of its `layers` has an activation, but its
    // gain is 1 as well. In the other stacks, every layer has an activation.
    let next = i.parse::<usize>().map_or_else(|_| String::new(), |i| format!("{stack}.{}", i + 1));
    let ends = matches!(stack, "layers" | "decoder" | "perturbation");
    let last = ends && layout.entry(&format!("{next}.weight")).is_none();
    if hidden && !last { std::f32::consts::SQRT_2 } else { 1.0 }
}

fn normal_within(cut: f32, rng: &mut Pcg64) -> f32 {
    loop {
        let draw: f32 = StandardNormal.sample(rng);
        if draw.abs() <= cut {
            return draw;
        }
    }
}

/// Fills `values` with orthonormal rows, or with orthonormal columns if there are more rows than columns. Multiplies
/// the result by `gain`. The method is Gram-Schmidt on normal draws. Each vector is orthogonalised twice, to reduce
/// rounding errors.
fn orthogonal(values: &mut [f32], rows: usize, gain: f32, rng: &mut Pcg64) {
    let columns = values.len() / rows;
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|_| StandardNormal.sample(rng)).collect();
        for _ in 0..2 {
            for other in &basis {
                let along: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|a| *a /= norm);
        basis.push(vector);
    }
    for (i, value) in values.iter_mut().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let element = if rows <= columns { basis[row][column] } else { basis[column][row] };
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let element = element as f32;
        *value = gain * element;
    }
}
