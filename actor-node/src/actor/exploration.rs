//! [`Exploration`]: noise on actions, in addition to the policy's own noise (docs/algorithms/sac.md §2.3).
//!
//! Each action component of each lane has its own noise process. Noise is in normalised units, and the noisy action is
//! clipped to `[−1, 1]`.

use common::config;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Noise that is added to the actions of a batch of lanes.
#[derive(Debug, Clone, PartialEq)]
pub enum Exploration {
    /// No noise.
    None,
    /// Gaussian noise: mean + sigma · N(0, 1), independent for each step and action component.
    Gaussian {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        sigma: f64,
    },
    /// Ornstein–Uhlenbeck noise with the value x. Each step adds theta · dt · (mean − x) + sigma · sqrt(dt) · N(0, 1)
    /// to x. The value starts at 0 and is not reset at the end of an episode.
    Ou {
        /// Value to which the process returns.
        mean: f64,
        /// Scale of the random term, sigma.
        sigma: f64,
        /// Rate of return to the mean, theta.
        theta: f64,
        /// Time step of the process, dt.
        dt: f64,
        /// Current noise values, one per lane and action component, shape (L · A). Empty before the first batch of
        /// actions.
        x: Vec<f64>,
    },
}

impl Exploration {
    /// Creates the noise process from the configuration.
    pub fn new(actor: &config::ActorConfig) -> Self {
        let sigma = actor.exploration_sigma.into();
        match actor.exploration {
            config::ExplorationKind::None => Self::None,
            config::ExplorationKind::Gaussian => Self::Gaussian { mean: 0.0, sigma },
            config::ExplorationKind::Ou => Self::Ou {
                mean: 0.0,
                sigma,
                theta: actor.ou_theta.into(),
                dt: actor.ou_dt.into(),
                x: Vec::new(),
            },
        }
    }

    /// Replaces the standard normal numbers in `noise` by the next values of the noise process.
    pub fn shape(&mut self, noise: &mut [f64]) {
        match self {
            Self::None => noise.fill(0.0),
            Self::Gaussian { mean, sigma } => {
                noise.iter_mut().for_each(|z| *z = *mean + *sigma * *z);
            }
            Self::Ou { mean, sigma, theta, dt, x } => {
                x.resize(noise.len(), 0.0);
                for (x, z) in x.iter_mut().zip(noise) {
                    *x += *theta * *dt * (*mean - *x) + *sigma * dt.sqrt() * *z;
                    *z = *x;
                }
            }
        }
    }

    /// Adds noise to continuous actions in `[−1, 1]`, and clips the noisy actions to the same range. Draws no random
    /// numbers if there is no noise.
    #[expect(clippy::cast_possible_truncation, reason = "actions are f32")]
    pub fn disturb(&mut self, actions: &mut [f32], scratch: &mut Vec<f64>, rng: &mut impl Rng) {
        if *self == Self::None {
            return;
        }
        scratch.clear();
        scratch.extend(actions.iter().map(|_| -> f64 { StandardNormal.sample(rng) }));
        self.shape(scratch);
        for (action, noise) in actions.iter_mut().zip(scratch) {
            *action = (f64::from(*action) + *noise).clamp(-1.0, 1.0) as f32;
        }
    }
}
