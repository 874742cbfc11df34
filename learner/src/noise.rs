//! [`NoiseBuffers`]: the random numbers of an update. They are drawn in a fixed order, so that a run can be repeated
//! exactly.

use crate::trainer::{Noise, NoiseSizes};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

/// Buffers for the random numbers of one update.
#[derive(Debug, Clone)]
pub struct NoiseBuffers {
    next_action: Vec<f32>,
    action: Vec<f32>,
    extra: Vec<f32>,
}

impl NoiseBuffers {
    /// Creates buffers of the sizes that the trainer needs.
    pub fn new(sizes: NoiseSizes) -> Self {
        let NoiseSizes { next_action, action, extra } = sizes;
        Self {
            next_action: vec![0.0; next_action],
            action: vec![0.0; action],
            extra: vec![0.0; extra],
        }
    }

    /// Draws new standard normals. The noise of the next action is drawn first, then the noise of the action, then the
    /// extra noise.
    pub fn draw(&mut self, rng: &mut Pcg64) -> Noise<'_> {
        for part in [&mut self.next_action, &mut self.action, &mut self.extra] {
            fill_normal(part, rng);
        }
        Noise { next_action: &self.next_action, action: &self.action, extra: &self.extra }
    }
}

/// Fills a slice with standard normals, from its first element to its last.
pub fn fill_normal(out: &mut [f32], rng: &mut Pcg64) {
    out.iter_mut().for_each(|value| *value = StandardNormal.sample(rng));
}
