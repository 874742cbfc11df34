//! [`Goal`]: a run ends after its steps, or when evaluations reach `run.target_return`.

use common::config::{ConfigError, Resolved};

/// Evaluations in a row that must reach the target: one may be luck.
const EVALUATIONS_AT_TARGET: u32 = 2;

/// Counts evaluations that reach the target.
#[derive(Debug)]
pub struct Goal {
    target: f64,
    in_a_row: u32,
}

impl Goal {
    /// The goal of a run's settings.
    pub fn new(resolved: &Resolved) -> Self {
        Self { target: resolved.config.run.target_return, in_a_row: 0 }
    }

    /// Takes the mean return of an evaluation in; what to say once the run is solved by it.
    pub fn evaluated(&mut self, mean: f64) -> Option<String> {
        self.in_a_row = if mean >= self.target { self.in_a_row + 1 } else { 0 };
        (self.in_a_row == EVALUATIONS_AT_TARGET).then(|| {
            format!("{EVALUATIONS_AT_TARGET} evaluations in a row reached {:.1}", self.target)
        })
    }
}

/// Whether anything is left to do for a run that has taken `done` environment steps.
///
/// # Errors
/// `run.env_steps` is no more than that.
pub fn check_steps(resolved: &Resolved, done: u64) -> Result<(), ConfigError> {
    let limit = resolved.config.run.env_steps;
    if done == 0 || limit == 0 || limit > done || resolved.config.is_offline() {
        return Ok(());
    }
    let expected = format!("more than the {done} steps that the run has done, or 0 for no limit");
    Err(resolved.invalid("run.env_steps", expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Layers, load};

    fn resolved(set: &str) -> Resolved {
        load(&Layers { set: vec![set.to_owned()], ..Layers::default() }).unwrap()
    }

    #[test]
    fn one_evaluation_at_the_target_may_be_luck() {
        let mut goal = Goal::new(&resolved("run.target_return=-200.0"));
        let solved = [-100.0, -300.0, -200.0, -199.0].map(|mean| goal.evaluated(mean).is_some());
        assert_eq!(solved, [false, false, false, true]);
    }

    #[test]
    fn a_run_that_is_done_needs_more_steps() {
        let resolved = resolved("run.env_steps=5000");
        assert!(check_steps(&resolved, 0).is_ok() && check_steps(&resolved, 4999).is_ok());
        let error = check_steps(&resolved, 5000).unwrap_err().to_string();
        assert!(error.contains("run.env_steps") && error.contains("5000 steps"), "{error}");
    }
}
