//! [`Tracker`]: records statistics of every single update, for studies of the learning process (`run.track_metrics`;
//! docs/algorithms/arlbench.md §6).
//!
//! It writes one line of `track_metrics.jsonl` per update. The line has the losses, the |td| of every item, and the
//! norm and the variance of the gradients of the actor and of the critics. A gradient g is computed from Adam's first
//! moments m before and m' after the update, g = (m' - β1 m) / (1 - β1). Therefore the backends need no code for it.
//! The copies of the moments make an update about twice as slow.

use crate::trainer::{TrainState, Trainer, TrainerConfig, UpdateStats};
use common::run_dir::TRACK_METRICS;
use fs_err::{File, OpenOptions};
use serde::Serialize;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// Record of one update.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Number of the update, counted from 1.
    update: u64,
    actor_loss: f64,
    critic_loss: f64,
    alpha_loss: f64,
    /// |td| of each item (B), computed by `learner.priority_rule`.
    td_error: &'a [f32],
    actor_grads: Gradient,
    critic_grads: Gradient,
}

/// Summary of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gradient {
    /// Euclidean norm.
    pub norm: f64,
    /// Variance of the elements over all parameters.
    pub variance: f64,
}

/// Writer of `track_metrics.jsonl`.
#[derive(Debug)]
pub struct Tracker {
    file: BufWriter<File>,
    beta1: f32,
    actor_m: Vec<f32>,
    critics_m: Vec<f32>,
}

impl Tracker {
    /// Opens `track_metrics.jsonl` in a run directory for appending. `state` is the state of the trainer before the
    /// next update.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn open(run_dir: &Path, config: &TrainerConfig, state: TrainState) -> io::Result<Self> {
        let path = run_dir.join(TRACK_METRICS);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (actor_m, critics_m) = (state.actor.adam_m, state.critics.adam_m);
        #[expect(clippy::cast_possible_truncation, reason = "moments are f32")]
        let beta1 = config.training.adam_beta1 as f32;
        Ok(Self { file: BufWriter::new(file), beta1, actor_m, critics_m })
    }

    /// Writes a line for the update that the trainer has just done. Takes the statistics from the trainer and returns
    /// them.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn updated(
        &mut self,
        trainer: &mut dyn Trainer,
        td_error: &[f32],
    ) -> io::Result<UpdateStats> {
        let (stats, state) = (trainer.take_stats(), trainer.state());
        let line = Line {
            update: state.updates,
            actor_loss: stats.actor_loss,
            critic_loss: stats.critic1_loss + stats.critic2_loss,
            alpha_loss: stats.alpha_loss,
            td_error,
            actor_grads: gradient(self.beta1, &self.actor_m, &state.actor.adam_m),
            critic_grads: gradient(self.beta1, &self.critics_m, &state.critics.adam_m),
        };
        serde_json::to_writer(&mut self.file, &line)?;
        self.file.write_all(b"\n")?;
        (self.actor_m, self.critics_m) = (state.actor.adam_m, state.critics.adam_m);
        Ok(stats)
    }

    /// Passes all buffered lines to the operating system.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Computes the norm and the variance of a gradient from Adam's first moments before and after an update.
fn gradient(beta1: f32, before: &[f32], after: &[f32]) -> Gradient {
    let beta1 = f64::from(beta1);
    let each = |(before, after): (&f32, &f32)| {
        (f64::from(*after) - beta1 * f64::from(*before)) / (1.0 - beta1)
    };
    let (mut sum, mut squares) = (0.0, 0.0);
    for g in before.iter().zip(after).map(each) {
        sum += g;
        squares += g * g;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 parameters")]
    let count = (after.len() as f64).max(1.0);
    let mean = sum / count;
    Gradient { norm: squares.sqrt(), variance: (squares / count - mean * mean).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_read_off_the_first_moments() {
        let (g, before) = ([3.0_f32, -4.0], [0.5_f32, 0.25]);
        let after: Vec<f32> = before.iter().zip(g).map(|(m, g)| 0.9 * m + 0.1 * g).collect();
        let Gradient { norm, variance } = gradient(0.9, &before, &after);
        assert!((norm - 5.0).abs() < 1e-5, "{norm}");
        assert!((variance - 12.25).abs() < 1e-4, "{variance}");
    }
}
