//! [`PolicyNet`]: the actor's forward pass in plain Rust, at batch 1 and at batch B.
//!
//! Sizes: B rows in a batch, O numbers in an observation, A action dimensions or discrete actions, S floats of
//! recurrent state, W numbers per action in a replay row ([`PolicyArch::action_width`]).

mod batch_constrained;
mod packed;

use super::{
    arch::{ArchError, Body, Head, LogStd, PolicyArch},
    network::Network,
    snapshot::{SnapshotError, check_weights},
    squash::Heads,
};
use kernels::{Isa, tanh::tanh_in_place};
use packed::Packed;
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal, StandardUniform};
use rand_pcg::Pcg64;

/// A policy that is ready to act: its weights in the format of the kernels, and scratch buffers. Each thread has its
/// own.
///
/// A squashed Gaussian on a perceptron with ReLU or tanh uses packed layers. The packed pass allocates memory only if B
/// is larger than in every call before. All other policies use one general, slower pass.
#[derive(Debug, Clone)]
pub struct PolicyNet {
    arch: PolicyArch,
    pass: Pass,
    /// Means, shape (B, A).
    mu: Vec<f32>,
    /// Log standard deviations, shape (B, A).
    log_std: Vec<f32>,
    /// Logits of a categorical policy, shape (B, A).
    logits: Vec<f32>,
    /// Random generator from which a batch-constrained policy draws its actions during an evaluation.
    draws: Pcg64,
}

#[derive(Debug, Clone)]
enum Pass {
    Packed(Packed),
    General(Network),
}

impl PolicyNet {
    /// Creates a policy with zero weights, on the fastest kernels of this processor.
    ///
    /// # Errors
    /// Returns an error if [`PolicyArch::validate`] refuses the architecture.
    pub fn new(arch: &PolicyArch) -> Result<Self, ArchError> {
        Self::with_isa(arch, Isa::best())
    }

    /// Creates a policy like [`PolicyNet::new`] on the given kernels, for tests and measurements.
    ///
    /// # Errors
    /// Returns an error if [`PolicyArch::validate`] refuses the architecture.
    pub fn with_isa(arch: &PolicyArch, isa: Isa) -> Result<Self, ArchError> {
        arch.validate()?;
        let pass = match Packed::new(arch, isa) {
            Some(packed) => Pass::Packed(packed),
            None => Pass::General(Network::new(arch.tensor_layout())),
        };
        let (mu, log_std, logits) = Default::default();
        let draws = batch_constrained::fresh_draws();
        Ok(Self { arch: arch.clone(), pass, mu, log_std, logits, draws })
    }

    /// Returns the architecture of the policy.
    pub fn arch(&self) -> &PolicyArch {
        &self.arch
    }

    /// Returns S, the number of floats of recurrent state per row; 0 for a feed-forward policy. The state is zero at
    /// the start of an episode.
    pub fn state_dim(&self) -> usize {
        self.arch.state_dim()
    }

    /// Returns how many random numbers [`PolicyNet::sample`] takes per row. Gaussian: A · categorical: 1 ·
    /// batch-constrained: samples * latent · other deterministic policies: 0.
    pub fn noise_width(&self) -> usize {
        match (&self.arch.head, &self.arch.body) {
            (_, Body::BatchConstrained { samples, latent, .. }) => samples * latent,
            (Head::Gaussian { .. }, _) => self.arch.act_dim,
            (Head::Categorical, _) => 1,
            (Head::Deterministic { .. }, _) => 0,
        }
    }

    /// Returns whether the random numbers for [`PolicyNet::sample`] are uniform in [0, 1), as for a categorical policy.
    /// For all other policies they are standard normal.
    pub fn noise_is_uniform(&self) -> bool {
        self.arch.head == Head::Categorical
    }

    /// Fills `noise` from first to last with random numbers for [`PolicyNet::sample`].
    pub fn draw_noise(&self, rng: &mut impl Rng, noise: &mut [f32]) {
        if self.noise_is_uniform() {
            noise.iter_mut().for_each(|noise| *noise = StandardUniform.sample(rng));
        } else {
            noise.iter_mut().for_each(|noise| *noise = StandardNormal.sample(rng));
        }
    }

    /// Sets the weights from a flat slice, laid out by [`PolicyArch::tensor_layout`], and converts them to the format
    /// of the kernels.
    ///
    /// This takes several passes over the weights. Call it once per snapshot, not once per step.
    ///
    /// # Errors
    /// Returns an error if the length is wrong or a weight is not finite. The weights are then unchanged.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), SnapshotError> {
        check_weights(&self.arch, weights)?;
        match &mut self.pass {
            Pass::Packed(packed) => packed.set(weights),
            Pass::General(network) => network.set(weights),
        }
        Ok(())
    }

    /// Returns means and log standard deviations of a Gaussian policy for `obs` (B, O). B follows from the length of
    /// `obs`. `state` (B, S) is replaced by the next state.
    ///
    /// # Panics
    /// If the policy is not Gaussian, or a slice does not have its shape.
    pub fn forward(&mut self, obs: &[f32], state: &mut [f32]) -> Heads<'_> {
        let Head::Gaussian { log_std, mean_bound } = self.arch.head else {
            panic!("{:?} has no mean and spread", self.arch.head)
        };
        let rows = self.check(obs, state);
        let act_dim = self.arch.act_dim;
        if let Pass::Packed(packed) = &mut self.pass {
            packed.forward(obs, rows, act_dim, (&mut self.mu, &mut self.log_std));
        } else {
            (self.mu, self.log_std) = self.gaussian(obs, state, rows, log_std);
        }
        let (mu, log_std) = (&mut self.mu[..rows * act_dim], &self.log_std[..rows * act_dim]);
        if let Some(bound) = mean_bound {
            tanh_in_place(mu);
            mu.iter_mut().for_each(|mu| *mu *= bound);
        }
        Heads { mu, log_std }
    }

    /// Returns the logits (B, A) of a categorical policy for `obs` (B, O). `state` (B, S) is replaced by the next
    /// state.
    ///
    /// # Panics
    /// If the policy is not categorical, or a slice does not have its shape.
    pub fn logits(&mut self, obs: &[f32], state: &mut [f32]) -> &[f32] {
        assert_eq!(self.arch.head, Head::Categorical, "only a categorical policy has logits");
        let rows = self.check(obs, state);
        self.logits = self.outputs(obs, state, rows, "logits");
        &self.logits
    }

    /// Writes the deterministic action to `action` (B, W). Gaussian: `tanh(mu)` in [-1, 1] · categorical: the index of
    /// the largest logit · deterministic head: its action. `state` (B, S) is replaced by the next state.
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn mode(&mut self, obs: &[f32], state: &mut [f32], action: &mut [f32]) {
        match self.arch.head {
            Head::Gaussian { .. } => self.forward(obs, state).mode(action),
            Head::Categorical => {
                let act_dim = self.arch.act_dim;
                let logits = self.logits(obs, state).chunks_exact(act_dim);
                for (logits, action) in logits.zip(action) {
                    *action = index(largest(logits));
                }
            }
            Head::Deterministic { .. } => self.act(obs, state, None, action),
        }
    }

    /// Computes actions from `noise` (B, [`PolicyNet::noise_width`]) and writes them to `action` (B, W). `state` (B, S)
    /// is replaced by the next state.
    ///
    /// # Panics
    /// If a slice does not have its shape.
    pub fn sample(&mut self, obs: &[f32], state: &mut [f32], noise: &[f32], action: &mut [f32]) {
        match self.arch.head {
            Head::Gaussian { .. } => self.forward(obs, state).sample(noise, action),
            Head::Categorical => {
                let act_dim = self.arch.act_dim;
                assert_eq!(noise.len(), action.len(), "noise is (B, 1)");
                let logits = self.logits(obs, state).chunks_exact(act_dim);
                for ((logits, uniform), action) in logits.zip(noise).zip(action) {
                    *action = index(inverse_cdf(logits, *uniform));
                }
            }
            Head::Deterministic { .. } => self.act(obs, state, Some(noise), action),
        }
    }

    /// Writes the actions of a deterministic head. A batch-constrained policy draws its noise itself if none is given.
    fn act(&mut self, obs: &[f32], state: &mut [f32], noise: Option<&[f32]>, action: &mut [f32]) {
        let Head::Deterministic { bound } = self.arch.head else {
            unreachable!("asked for a deterministic head only")
        };
        let rows = self.check(obs, state);
        if let Body::BatchConstrained { .. } = self.arch.body {
            let obs = self.normalised(obs);
            let network = self.general();
            let mut draws = self.draws.clone();
            batch_constrained::act(network, &self.arch, &obs, noise, &mut draws, action);
            self.draws = draws;
            return;
        }
        action.copy_from_slice(&self.outputs(obs, state, rows, "action"));
        tanh_in_place(action);
        action.iter_mut().for_each(|action| *action *= bound);
    }

    /// Returns B, and checks the lengths of the slices.
    fn check(&self, obs: &[f32], state: &[f32]) -> usize {
        let obs_dim = self.arch.obs_dim;
        let rows = obs.len() / obs_dim;
        assert_eq!(rows * obs_dim, obs.len(), "obs is (B, {obs_dim})");
        assert_eq!(rows * self.state_dim(), state.len(), "state is (B, {})", self.state_dim());
        rows
    }

    fn general(&self) -> &Network {
        match &self.pass {
            Pass::General(network) => network,
            Pass::Packed(_) => unreachable!("a plain Gaussian perceptron is packed"),
        }
    }

    /// Returns the observations, normalised by the statistics that are stored with the weights.
    fn normalised(&self, obs: &[f32]) -> Vec<f32> {
        let Some(clip) = self.arch.obs_clip else { return obs.to_vec() };
        let (mean, std) =
            (self.general().get("normaliser.mean"), self.general().get("normaliser.std"));
        let statistics = mean.iter().zip(std).cycle();
        obs.iter()
            .zip(statistics)
            .map(|(x, (mean, std))| ((x - mean) / std).clamp(-clip, clip))
            .collect()
    }

    /// Returns the outputs (B, ..) of the body, or of the layer `head` if the body is not its own head. `state` is
    /// replaced by the next state.
    fn outputs(&self, obs: &[f32], state: &mut [f32], rows: usize, head: &str) -> Vec<f32> {
        let (network, body) = (self.general(), &self.arch.body);
        let features = network.step(body, &self.normalised(obs), state, rows);
        if body.is_its_own_head() { features } else { network.linear(head, &features, rows) }
    }

    /// Returns the mean before it is bounded, and the log standard deviation, each (B, A).
    fn gaussian(
        &self,
        obs: &[f32],
        state: &mut [f32],
        rows: usize,
        log_std: LogStd,
    ) -> (Vec<f32>, Vec<f32>) {
        let (network, body, act_dim) = (self.general(), &self.arch.body, self.arch.act_dim);
        let features = network.step(body, &self.normalised(obs), state, rows);
        let own = body.is_its_own_head();
        let part = |half: usize, width: usize| -> Vec<f32> {
            let rows = features.chunks_exact(width);
            rows.flat_map(|row| &row[half * act_dim..][..act_dim]).copied().collect()
        };
        match log_std {
            LogStd::Free => {
                let mu = if own { features } else { network.linear("mu", &features, rows) };
                (mu, network.get("log_std").repeat(rows))
            }
            LogStd::Conditioned { min, max } => {
                let (mu, mut log_std) = if own {
                    (part(0, 2 * act_dim), part(1, 2 * act_dim))
                } else {
                    let [mu, log_std] =
                        ["mu", "log_std"].map(|head| network.linear(head, &features, rows));
                    (mu, log_std)
                };
                log_std.iter_mut().for_each(|log_std| *log_std = log_std.clamp(min, max));
                (mu, log_std)
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer actions than 2^24")]
fn index(index: usize) -> f32 {
    index as f32
}

/// Returns the index of the largest number, or of the first one if several are equal.
pub(super) fn largest(numbers: &[f32]) -> usize {
    let better = |best: usize, (i, x): (usize, &f32)| if *x > numbers[best] { i } else { best };
    numbers.iter().enumerate().fold(0, better)
}

/// Returns the action that `uniform`, a number in [0, 1), selects. It is the action whose interval in the cumulative
/// distribution of softmax(logits) contains the number.
fn inverse_cdf(logits: &[f32], uniform: f32) -> usize {
    let max = logits[largest(logits)];
    let total: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    let mut left = uniform * total;
    for (i, logit) in logits.iter().enumerate() {
        left -= (logit - max).exp();
        if left < 0.0 {
            return i;
        }
    }
    logits.len() - 1
}
