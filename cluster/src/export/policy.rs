//! From a policy's architecture and weights to a [`Graph`]: normaliser, body, head, and action in the environment's units.
//!
//! Letters: N rows, O observation, S state, A action, K drawn actions, L latent.

use super::body::Builder;
use super::graph::{Graph, Map, Op, Output, Value, Zip};
use common::policy::arch::{Body, Head, LogStd, PolicyArch};
use common::runtime::seed::SeedTree;
use rand_distr::{Distribution as _, StandardNormal};
use std::iter::once;

/// A policy and what an environment makes of its actions.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// What the weights mean.
    pub arch: &'a PolicyArch,
    /// By [`PolicyArch::tensor_layout`].
    pub weights: &'a [f32],
    /// Half the width of the environment's action box, (A); empty where actions are discrete.
    pub scale: &'a [f32],
    /// Middle of the box, (A).
    pub bias: &'a [f32],
}

/// Which action is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The deterministic one.
    Mode,
    /// One drawn with the caller's noise.
    Sampler,
}

/// Largest absolute latent that a batch-constrained policy draws (SEED-SPEC §5.8).
const LATENT_MAX: f32 = 0.5;

impl Policy<'_> {
    /// Columns of a sampler's `noise`: uniform in [0, 1) for discrete actions, else standard normal; 0 where the policy
    /// is deterministic and there is nothing to draw.
    pub fn noise_width(&self) -> usize {
        match (&self.arch.body, &self.arch.head) {
            (Body::BatchConstrained { latent, samples, .. }, _) => latent * samples,
            (_, Head::Gaussian { .. }) => self.arch.act_dim,
            (_, Head::Categorical) => 1,
            (_, Head::Deterministic { .. }) => 0,
        }
    }

    /// The noise (1, [`Policy::noise_width`]) that stands in for a caller's where a batch-constrained policy is to be
    /// deterministic: drawn once, the same in every file.
    ///
    /// Without it such a policy has no action of its own: it decodes K random latents and takes what its critic likes
    /// best. Latents of zero would make K equal actions of these, and leave the critic nothing to choose from.
    pub fn fixed_noise(&self) -> Vec<f32> {
        let mut rng = SeedTree::new(0).role("export").rng();
        (0..self.noise_width()).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    /// Its computation: inputs `obs` (N, O), `state` (N, S) where S > 0, and `noise` for a sampler that draws; outputs
    /// `action`, (N, A) in the environment's units or (N) indices, and `next_state` (N, S).
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

    /// `clamp((obs - mean) / std, ±clip)` where observations are normalised.
    fn normalise(&self, b: &mut Builder<'_>, obs: Value) -> Value {
        let Some(clip) = self.arch.obs_clip else { return obs };
        let [mean, std] = ["normaliser.mean", "normaliser.std"].map(|name| b.weight(name));
        let centred = b.graph.zip(Zip::Sub, obs, mean);
        let scaled = b.graph.zip(Zip::Div, centred, std);
        b.graph.push(Op::Clamp { min: -clip, max: clip }, &[scaled])
    }

    /// Features to an action in normalised units (N, A), or to indices (N).
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

    /// The head's n-th A numbers: a linear layer's, or columns of a body that is its own head.
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

    /// The first action whose cumulative probability is above the noise (N, 1).
    fn draw(&self, g: &mut Graph, logits: Value, noise: Value) -> Value {
        let n = self.arch.act_dim;
        let probs = g.push(Op::Softmax, &[logits]);
        let sums = (0..n * n).map(|i| if i % n <= i / n { 1.0 } else { 0.0 }).collect();
        let sums = g.constant(&[n, n], sums);
        // The last one is above any noise, however the sum is rounded.
        let last = g.constant(&[n], (1..=n).map(|i| if i == n { 1.0 } else { 0.0 }).collect());
        let cumulative = g.push(Op::Linear, &[probs, sums, last]);
        let above = g.zip(Zip::Sub, cumulative, noise);
        let above = g.map(Map::Sign, above);
        g.push(Op::ArgMax, &[above])
    }

    /// Batch-constrained Q-learning's way to act (SEED-SPEC §5.9): (N, A) in normalised units. Without the caller's noise
    /// it is [`Policy::fixed_noise`], the same for every row.
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

    /// [`Policy::fixed_noise`] for every row of `obs`: the bias of a layer without weights, because only a value that
    /// depends on an input has the number of rows.
    fn fixed(&self, g: &mut Graph, obs: Value) -> Value {
        let width = self.noise_width();
        let any = g.columns(obs, 0, 1);
        let nothing = g.constant(&[width, 1], vec![0.0; width]);
        let noise = g.named("decoder.noise", &self.fixed_noise());
        g.push(Op::Linear, &[any, nothing, noise])
    }

    /// `action * scale + bias`
    fn env_units(&self, b: &mut Builder<'_>, action: Value) -> Value {
        let [scale, bias] = [("environment.scale", self.scale), ("environment.bias", self.bias)]
            .map(|(name, values)| b.graph.named(name, values));
        let scaled = b.graph.zip(Zip::Mul, action, scale);
        b.graph.zip(Zip::Add, scaled, bias)
    }
}

/// `bound * tanh(x)`
fn bounded(g: &mut Graph, bound: f32, x: Value) -> Value {
    let x = g.map(Map::Tanh, x);
    let bound = g.scalar(bound);
    g.zip(Zip::Mul, x, bound)
}
