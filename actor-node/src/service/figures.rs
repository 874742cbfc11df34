//! Figures that actors and evaluations add to a run's log. A stand-alone actor process writes its figures with
//! [`follow`].

use crate::actor::Counters;
use crate::evaluation::Evaluation;
use common::run_dir::process_log::ProcessLog;
use common::runtime::clock::Clock;
use common::runtime::shutdown::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval at which an actor's figures are written.
const EVERY: Duration = Duration::from_secs(1);

/// Returns the figures of an evaluation, by name.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn of_evaluation(evaluation: &Evaluation) -> Vec<(&'static str, f64)> {
    let returns = &evaluation.returns;
    let length = evaluation.lengths.iter().sum::<u64>() as f64 / returns.len() as f64;
    vec![
        ("version", evaluation.version.0 as f64),
        ("episodes", returns.len() as f64),
        ("return_mean", evaluation.mean),
        ("return_std", evaluation.std),
        ("return_ci95", evaluation.ci95),
        ("return_min", returns.iter().copied().fold(f64::INFINITY, f64::min)),
        ("return_max", returns.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ("length_mean", length),
        ("discarded", evaluation.discarded as f64),
        ("cut_off", evaluation.cut_off as f64),
    ]
}

/// Writes an actor's figures every second, and once more when the process stops.
pub async fn follow(
    mut log: ProcessLog,
    counters: Arc<Counters>,
    clock: Clock,
    shutdown: Shutdown,
) {
    let (mut steps, mut at) = (0, clock.now());
    loop {
        let stops = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let (steps_now, now) = (counters.env_steps.load(Ordering::Relaxed), clock.now());
        let seconds = now.saturating_sub(at).as_secs_f64().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let mut figures = vec![
            ("env_steps", steps_now as f64),
            ("env_steps_per_second", steps_now.saturating_sub(steps) as f64 / seconds),
            ("episodes", counters.episodes.load(Ordering::Relaxed) as f64),
            ("version", counters.version.load(Ordering::Relaxed) as f64),
        ];
        figures.extend(counters.return_mean().map(|mean| ("return_mean", mean)));
        figures.extend(counters.length_mean().map(|mean| ("length_mean", mean)));
        log.record(counters.run(), &figures, &counters.terms());
        (steps, at) = (steps_now, now);
        if stops {
            return;
        }
    }
}
