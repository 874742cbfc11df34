//! [`Goal`]: ends a run when its evaluations reach `run.target_return`. [`check_steps`]: checks the limit on
//! environment steps.

use common::config::{ConfigError, Resolved};

/// Number of consecutive evaluations that must reach the target, because a single evaluation may reach it by chance.
const EVALUATIONS_AT_TARGET: u32 = 2;

/// Counts consecutive evaluations that reach the target return.
#[derive(Debug)]
pub struct Goal {
    /// `None` if the run has no target.
    target: Option<f64>,
    /// Whether returns are costs, so that lower returns are better.
    costs: bool,
    in_a_row: u32,
}

impl Goal {
    /// Creates the goal from the settings of a run.
    pub fn new(resolved: &Resolved) -> Self {
        let target = resolved.config.run.target_return;
        let costs = resolved.config.returns_are_costs();
        Self { target: target.is_finite().then_some(target), costs, in_a_row: 0 }
    }

    /// Processes the mean return of an evaluation. Returns a message if the run is solved with this evaluation.
    pub fn evaluated(&mut self, mean: f64) -> Option<String> {
        let target = self.target?;
        let reached = if self.costs { mean <= target } else { mean >= target };
        self.in_a_row = if reached { self.in_a_row + 1 } else { 0 };
        (self.in_a_row == EVALUATIONS_AT_TARGET)
            .then(|| format!("{EVALUATIONS_AT_TARGET} evaluations in a row reached {target:.1}"))
    }
}

/// Checks that a run that has already taken `done` environment steps has not reached its limit. A fresh run, a run
/// without a limit and a run on recorded data always pass.
///
/// # Errors
/// Returns an error if `run.env_steps` is at most `done`, unless one of these exceptions applies.
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

    fn resolved(set: &[&str]) -> Resolved {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        load(&Layers { set, ..Layers::default() }).unwrap()
    }

    #[test]
    fn one_evaluation_at_the_target_may_be_luck() {
        let mut goal = Goal::new(&resolved(&["run.target_return=-200.0"]));
        let solved = [-100.0, -300.0, -200.0, -199.0].map(|mean| goal.evaluated(mean).is_some());
        assert_eq!(solved, [false, false, false, true]);
    }

    #[test]
    fn a_cost_reaches_its_target_from_above_and_without_a_target_never() {
        let lac = ["learner.algorithm=lac", "learner.backend=torch"];
        let mut goal = Goal::new(&resolved(&[lac[0], lac[1], "run.target_return=40.0"]));
        let solved = [50.0, 40.0, 60.0, 39.0, 30.0].map(|mean| goal.evaluated(mean).is_some());
        assert_eq!(solved, [false, false, false, false, true]);
        let mut endless = Goal::new(&resolved(&[lac[0], lac[1], "run.target_return=inf"]));
        assert!([0.0; 5].iter().all(|mean| endless.evaluated(*mean).is_none()));
    }

    #[test]
    fn a_run_that_is_done_needs_more_steps() {
        let resolved = resolved(&["run.env_steps=5000"]);
        assert!(check_steps(&resolved, 0).is_ok() && check_steps(&resolved, 4999).is_ok());
        let error = check_steps(&resolved, 5000).unwrap_err().to_string();
        assert!(error.contains("run.env_steps") && error.contains("5000 steps"), "{error}");
    }
}
