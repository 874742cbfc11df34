//! Builds a [`Graph`] from a policy's architecture and weights: observation normaliser, body, head, and the conversion
//! of actions to the environment's units.
//!
//! Letters in shapes: N is the number of rows, and K the number of sampled actions. O, S, A and L are the lengths of an
//! observation, a state, an action and a latent.

use super::body::Builder;
use super::graph::{Graph, Map, Op, Output, Value, Zip};
use common::policy::arch::{Body, Head, LogStd, PolicyArch};
use common::runtime::seed::SeedTree;
use rand_distr::{Distribution as _, StandardNormal};
use std::iter::once;

/// A policy, and the scaling of its actions to the environment's units.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Architecture of the policy.
    pub arch: &'a PolicyArch,
    /// Weights, in the layout of [`PolicyArch::tensor_layout`].
    pub weights: &'a [f32],
    /// Half the width of the environment's action range, (A). Empty if actions are discrete.
    pub scale: &'a [f32],
    /// Centre of the action range, (A). Empty if actions are discrete.
    pub bias: &'a [f32],
}

/// The way in which the action is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The deterministic action.
    Mode,
    /// An action sampled with noise from the caller.
    Sampler,
}

/// Largest absolute value of a latent that a batch-constrained policy draws (docs/algorithms/bcq.md §1.1).
const LATENT_MAX: f32 = 0.5;

impl Policy<'_> {
    /// Returns the number of columns of a sampler's input `noise`. The noise is uniform in [0, 1) for discrete actions
    /// and standard normal otherwise. The number is 0 if the policy is deterministic and draws nothing.
    pub fn noise_width(&self) -> usize {
        match (&self.arch.body, &self.arch.head) {
            (Body::BatchConstrained { latent, samples, .. }, _) => latent * samples,
            (_, Head::Gaussian { .. }) => self.arch.act_dim,
            (_, Head::Categorical) => 1,
            (_, Head::Deterministic { .. }) => 0,
        }
    }

    /// Returns the noise (1, [`Policy::noise_width`]) that replaces the caller's noise in the deterministic variant of
    /// a batch-constrained policy. The noise is drawn from a fixed seed, so that it is the same in every file.
    ///
    /// Without this noise, a batch-constrained policy has no deterministic action: it decodes K random latents to
    /// actions and takes the action to which its critic gives the highest value. Latents of zero would give K equal
    /// actions, so the critic would have no choice.
    pub fn fixed_noise(&self) -> Vec<f32> {
        let mut rng = SeedTree::new(0).role("export").rng();
        (0..self.noise_width()).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    /// Returns the computation of the policy. Inputs are `obs` (N, O), `state` (N, S) if S > 0, and `noise` for a
    /// stochastic sampler. Outputs are `action` and, if S > 0, `next_state` (N, S). A continuous action is (N, A) in
    /// the environment's units; a discrete action is one index per row (N).
    pub fn graph(&self, variant: Variant) -> Graph {
        let Self { arch, weights, .. } = *self;
        let mut b = Builder::new(arch.tensor_layout(), weights);
        let obs = b.graph.input("obs", arch.obs_dim);
        let state_dim = arch.state_dim();
        let state = (state_dim > 0).then(|| b.graph.input("state", state_dim));
        let draws = variant == Variant::Sampler && self.noise_width() > 0;
        let noise = draws.then(|| b.graph.input("noise", self.noise_width()));

        let obs = self.normalise(&mut b, obs);
        let (action, next_state) = if let Body::BatchConstrained { .. } = arch.body {
            (self.batch_constrained(&mut b, obs, noise), None)
        } else {
            let (features, next_state) = b.body(&arch.body, arch.outputs(), obs, state);
            (self.head(&mut b, features, noise), next_state)
        };
        let width = match arch.head {
            Head::Categorical => None,
            Head::Gaussian { .. } | Head::Deterministic { .. } => Some(arch.act_dim),
        };
        let action = if width.is_some() { self.env_units(&mut b, action) } else { action };
        let next_state =
            next_state.map(|value| Output { name: "next_state", value, width: Some(state_dim) });
        b.graph.outputs =
            once(Output { name: "action", value: action, width }).chain(next_state).collect();
        b.graph
    }

    /// Computes `clamp((obs - mean) / std, ±clip)` if the policy normalises observations.
    fn normalise(&self, b: &mut Builder<'_>, obs: Value) -> Value {
        let Some(clip) = self.arch.obs_clip else { return obs };
        let [mean, std] = ["normaliser.mean", "normaliser.std"].map(|name| b.weight(name));
        let centred = b.graph.zip(Zip::Sub, obs, mean);
        let scaled = b.graph.zip(Zip::Div, centred, std);
        b.graph.push(Op::Clamp { min: -clip, max: clip }, &[scaled])
    }

    /// Maps features to an action in normalised units (N, A), or to indices (N).
    fn head(&self, b: &mut Builder<'_>, features: Value, noise: Option<Value>) -> Value {
        match self.arch.head {
            Head::Gaussian { log_std, mean_bound } => {
                let mut u = self.output(b, "mu", 0, features);
                if let Some(bound) = mean_bound {
                    u = bounded(&mut b.graph, bound, u);
                }
                if let Some(noise) = noise {
                    let std = self.std(b, log_std, features);
                    let away = b.graph.zip(Zip::Mul, std, noise);
                    u = b.graph.zip(Zip::Add, u, away);
                }
                b.graph.map(Map::Tanh, u)
            }
            Head::Categorical => {
                let logits = self.output(b, "logits", 0, features);
                match noise {
                    None => b.graph.push(Op::ArgMax, &[logits]),
                    Some(noise) => self.draw(&mut b.graph, logits, noise),
                }
            }
            Head::Deterministic { bound } => {
                let raw = self.output(b, "action", 0, features);
                bounded(&mut b.graph, bound, raw)
            }
        }
    }

    /// Returns the n-th group of A outputs. If the body is its own head, these are columns of the features. Otherwise
    /// the linear layer `name` computes them.
    fn output(&self, b: &mut Builder<'_>, name: &str, n: usize, features: Value) -> Value {
        let Self { arch, .. } = self;
        if !arch.body.is_its_own_head() {
            b.linear(name, features)
        } else if arch.outputs() == arch.act_dim {
            features
        } else {
            b.graph.columns(features, n * arch.act_dim, arch.act_dim)
        }
    }

    fn std(&self, b: &mut Builder<'_>, log_std: LogStd, features: Value) -> Value {
        let log_std = match log_std {
            LogStd::Conditioned { min, max } => {
                let raw = self.output(b, "log_std", 1, features);
                b.graph.push(Op::Clamp { min, max }, &[raw])
            }
            LogStd::Free => b.weight("log_std"),
        };
        b.graph.map(Map::Exp, log_std)
    }

    /// Returns the index of the first action whose cumulative probability exceeds the noise (N, 1).
    fn draw(&self, g: &mut Graph, logits: Value, noise: Value) -> Value {
        let n = self.arch.act_dim;
        let probs = g.push(Op::Softmax, &[logits]);
        let sums = (0..n * n).map(|i| if i % n <= i / n { 1.0 } else { 0.0 }).collect();
        let sums = g.constant(&[n, n], sums);
        // 1 is added to the last cumulative probability, so that it exceeds any noise despite rounding.
        let last = g.constant(&[n], (1..=n).map(|i| if i == n { 1.0 } else { 0.0 }).collect());
        let cumulative = g.push(Op::Linear, &[probs, sums, last]);
        let above = g.zip(Zip::Sub, cumulative, noise);
        let above = g.map(Map::Sign, above);
        g.push(Op::ArgMax, &[above])
    }

    /// Computes the action of batch-constrained Q-learning (docs/algorithms/bcq.md §3), (N, A) in normalised units. If
    /// `noise` is `None`, [`Policy::fixed_noise`] is used for every row.
    fn batch_constrained(&self, b: &mut Builder<'_>, obs: Value, noise: Option<Value>) -> Value {
        let (Body::BatchConstrained { decoder, perturbation, critic, latent, samples, phi }, head) =
            (&self.arch.body, &self.arch.head)
        else {
            unreachable!("asked for other bodies")
        };
        let Head::Deterministic { bound } = *head else { unreachable!("the head of this body") };
        let (obs_dim, act_dim) = (self.arch.obs_dim, self.arch.act_dim);
        let noise = noise.unwrap_or_else(|| self.fixed(&mut b.graph, obs));
        let latents = b.graph.push(Op::Reshape { dims: vec![*latent] }, &[noise]);
        let latents = b.graph.push(Op::Clamp { min: -LATENT_MAX, max: LATENT_MAX }, &[latents]);
        let obs = b.graph.push(Op::RepeatRows { times: *samples, width: obs_dim }, &[obs]);
        let z = b.graph.concat(&[obs, latents]);
        let raw = b.mlp_with_output("decoder", decoder, z);
        let drawn = bounded(&mut b.graph, bound, raw);
        let z = b.graph.concat(&[obs, drawn]);
        let raw = b.mlp_with_output("perturbation", perturbation, z);
        let moved = bounded(&mut b.graph, phi * bound, raw);
        let action = b.graph.zip(Zip::Add, drawn, moved);
        let action = b.graph.push(Op::Clamp { min: -bound, max: bound }, &[action]);
        let z = b.graph.concat(&[obs, action]);
        let q = b.mlp_with_output("critic", critic, z);
        let q = b.graph.push(Op::Reshape { dims: vec![*samples] }, &[q]);
        let best = b.graph.push(Op::ArgMax, &[q]);
        let actions = b.graph.push(Op::Reshape { dims: vec![*samples, act_dim] }, &[action]);
        b.graph.push(Op::Pick { width: act_dim }, &[actions, best])
    }

    /// Returns [`Policy::fixed_noise`] once for every row of `obs`. The noise is the bias of a linear layer with zero
    /// weights, because the result must have as many rows as the input. A constant alone would have one row.
    fn fixed(&self, g: &mut Graph, obs: Value) -> Value {
        let width = self.noise_width();
        let any = g.columns(obs, 0, 1);
        let nothing = g.constant(&[width, 1], vec![0.0; width]);
        let noise = g.named("decoder.noise", &self.fixed_noise());
        g.push(Op::Linear, &[any, nothing, noise])
    }

    /// Computes `action * scale + bias`.
    fn env_units(&self, b: &mut Builder<'_>, action: Value) -> Value {
        let [scale, bias] = [("environment.scale", self.scale), ("environment.bias", self.bias)]
            .map(|(name, values)| b.graph.named(name, values));
        let scaled = b.graph.zip(Zip::Mul, action, scale);
        b.graph.zip(Zip::Add, scaled, bias)
    }
}

/// Computes `bound * tanh(x)`.
fn bounded(g: &mut Graph, bound: f32, x: Value) -> Value {
    let x = g.map(Map::Tanh, x);
    let bound = g.scalar(bound);
    g.zip(Zip::Mul, x, bound)
}
