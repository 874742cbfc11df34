//! The end of a run: the final evaluation, the report and the closing messages for the user.

use crate::progress::say;
use crate::report;
use crate::run_policy;
use actor_node::evaluation::{
    ActionMode, BestPolicy, EpisodeRunner, Episodes, Evaluation, EvaluationError, Plan,
    TrajectoryLog, best_policy,
};
use actor_node::service::figures;
use common::policy::snapshot::PolicySnapshot;
use common::process::Process;
use common::run_dir::{POLICY, RunDir};
use common::runtime::seed::SeedTree;
use learner::run_log::{self, Record, RunLog};
use serde_json::Value;
use std::path::Path;

/// Evaluates the run's policy ([`run_policy`]), logs the result, writes the report and prints where the files are. If
/// the environment fails or a signal arrives, only the evaluation is omitted.
///
/// # Errors
/// Returns an error if the policy or the log cannot be read, or if the report cannot be written.
pub fn finish(process: &Process, run: &RunDir, path: &Path, log: &RunLog) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let runner = EpisodeRunner::new(Plan::new(config, process.shutdown.signal_token()));
    let mut evaluations = Evaluations { process, run, runner };
    if config.evaluator.episodes > 0 && best_policy(run.path()).is_some() {
        match evaluations.offer_newest(path)? {
            Some(Ok(newest)) => log.eval(&figures::of_evaluation(&newest), &newest.terms),
            Some(Err(error)) => say(&format!("evaluation  of the newest policy: {error}")),
            None => {}
        }
    }
    let (policy_path, policy) = match best_policy(run.path()) {
        Some(best) => (best, "best"),
        None => (path.to_owned(), "newest"),
    };
    let version = run_policy::load(&policy_path)?.1.0;
    let episodes = config.evaluator.final_episodes;
    let ended = if episodes > 0 {
        say(&format!("evaluating  the {policy} policy, version {version}: {episodes} episodes"));
        let seeds = process.seeds.role("final evaluation");
        match evaluations.evaluate("final", &policy_path, episodes, seeds)? {
            Ok(evaluation) => {
                let mut record = figures::of_evaluation(&evaluation);
                record.push(("best", f64::from(u8::from(policy == "best"))));
                log.record_with("final", &record, &evaluation.terms);
                describe(&evaluation)
            }
            Err(error) => format!("none: {error}"),
        }
    } else {
        "none: evaluator.final_episodes is 0".to_owned()
    };
    log.flush()?;
    let report = report::write(run.path())?;
    say(&format!("evaluation  {ended}"));
    say(&format!("policy      {}, the {policy}, version {version}", policy_path.display()));
    say(&format!("checkpoint  {}", path.display()));
    say(&format!("report      {}", report.display()));
    Ok(())
}

/// An evaluation, or the reason why it failed. A failure before the evaluation, such as an unreadable policy, is not
/// part of this type.
type Evaluated = Result<Evaluation, EvaluationError>;

/// The evaluations at the end of a run, all in one environment.
struct Evaluations<'a> {
    process: &'a Process,
    run: &'a RunDir,
    runner: EpisodeRunner,
}

impl Evaluations<'_> {
    /// Runs one evaluation of the policy in the folder `policy`. If `run.track_trajectories` is set, the episodes are
    /// written to the trajectory log under `kind`.
    fn evaluate(
        &mut self,
        kind: &'static str,
        policy: &Path,
        count: usize,
        seeds: SeedTree,
    ) -> anyhow::Result<Evaluated> {
        let (mut net, version) = run_policy::load(policy)?;
        let acting = ActionMode::Deterministic;
        let episodes = Episodes { policy: &mut net, version, count, seeds, acting };
        Ok(if self.process.resolved.config.run.track_trajectories {
            let mut log = TrajectoryLog::open(self.run.path(), kind)?;
            log.evaluate(&mut self.runner, episodes)
        } else {
            self.runner.run(episodes, &mut ())
        })
    }

    /// Evaluates the newest policy and makes it the best policy of the run if the result is better. The evaluator may
    /// not have evaluated the newest policy: in a run of a few seconds, it evaluates only the first versions. If the
    /// log already has an evaluation of the newest version, evaluates nothing and returns `None`.
    fn offer_newest(&mut self, checkpoint: &Path) -> anyhow::Result<Option<Evaluated>> {
        let config = &self.process.resolved.config;
        let (newest, arch) = PolicySnapshot::load(&checkpoint.join(POLICY))?;
        #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
        let version = newest.version.0 as f64;
        let is_seen = |record: &Record| {
            let is = |field: &str, value: &Value| record.get(field) == Some(value);
            is("kind", &"eval".into()) && is("version", &version.into())
        };
        if run_log::read(self.run.path())?.iter().any(is_seen) {
            return Ok(None);
        }
        let seeds = self.process.seeds.role("last evaluation");
        let evaluation = self.evaluate("eval", checkpoint, config.evaluator.episodes, seeds)?;
        if let Ok(evaluation) = &evaluation {
            let mut best = BestPolicy::open(self.run.path(), config.returns_are_costs())?;
            best.offer(evaluation, &newest, &arch)?;
        }
        Ok(Some(evaluation))
    }
}

/// Returns the result as text, such as `mean deterministic return -142.3 ± 35.1 (95%) over 20 episodes`.
pub fn describe(evaluation: &Evaluation) -> String {
    let Evaluation { mean, ci95, returns, discarded, cut_off, .. } = evaluation;
    let episodes = returns.len();
    let mut text =
        format!("mean deterministic return {mean:.1} ± {ci95:.1} (95%) over {episodes} episodes");
    for (count, what) in [(discarded, "failed"), (cut_off, "were cut off")] {
        if *count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}
