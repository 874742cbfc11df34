//! [`Exploration`]: noise on actions, beside the policy's own (SEED-SPEC §4.4).
//!
//! Every number of a batch has its own process; noise is in normalised units, and the noisy action is clipped to [−1, 1].

use common::config;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// What is added to the actions of a batch of lanes.
#[derive(Debug, Clone, PartialEq)]
pub enum Exploration {
    /// Nothing.
    None,
    /// mean + sigma · N(0, 1), independent.
    Gaussian {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        sigma: f64,
    },
    /// Ornstein–Uhlenbeck: x += theta · dt · (mean − x) + sigma · sqrt(dt) · N(0, 1), from 0, over all episodes.
    Ou {
        /// Where it is drawn to.
        mean: f64,
        /// Strength of the noise.
        sigma: f64,
        /// Strength of the pull.
        theta: f64,
        /// Time of a step.
        dt: f64,
        /// (L · A), where it is; as long as the first batch.
        x: Vec<f64>,
    },
}

impl Exploration {
    /// As configured.
    pub fn new(actor: &config::Actor) -> Self {
        let sigma = actor.exploration_sigma.into();
        match actor.exploration {
            config::Exploration::None => Self::None,
            config::Exploration::Gaussian => Self::Gaussian { mean: 0.0, sigma },
            config::Exploration::Ou => Self::Ou {
                mean: 0.0,
                sigma,
                theta: actor.ou_theta.into(),
                dt: actor.ou_dt.into(),
                x: Vec::new(),
            },
        }
    }

    /// The next noise from the standard normals in `noise`, in their place.
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

    /// Adds noise to continuous actions in [−1, 1] and clips them; draws nothing where there is none.
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
