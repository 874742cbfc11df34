//! The end of a run: the final evaluation, the report, and what the user is told.

use crate::progress::{Snapshot, say};
use crate::report;
use crate::run_policy;
use actor_node::best::{BestPolicy, best_policy};
use actor_node::env::Setup;
use actor_node::evaluation::Evaluation;
use actor_node::trajectories::TrajectoryLog;
use common::policy::snapshot::PolicySnapshot;
use common::process::Process;
use common::run_dir::{POLICY, RunDir};
use learner::checkpoint::Checkpoint;
use learner::run_log::RunLog;
use std::path::Path;

/// Evaluates the run's policy ([`run_policy`]), logs it, writes the report and says where everything is.
///
/// # Errors
/// The environment fails, or the report cannot be written.
pub fn finish(
    process: &Process,
    run: &RunDir,
    checkpoint: &Checkpoint,
    path: &Path,
    log: &RunLog,
) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let snapshot = Snapshot { updates: checkpoint.state.updates, ..Default::default() };
    let (policy_path, is_best) = match best_policy(run.path()) {
        Some(best) => {
            let newest = offer_newest(process, run, path)?;
            log.eval(&snapshot.evaluation_record(&newest));
            (best, true)
        }
        None => (path.to_owned(), false),
    };
    let seeds = process.seeds.role("final evaluation");
    let (episodes, resolved) = (config.evaluator.final_episodes, &process.resolved);
    let evaluation = if config.run.track_trajectories {
        let mut trajectories = TrajectoryLog::open(run.path(), "final")?;
        let (mut policy, version) = run_policy::load(&policy_path)?;
        let (env, setup) = (&config.cluster.env, Setup::new(config));
        trajectories.evaluate(env, &setup, &mut policy, version, episodes, &seeds)?
    } else {
        run_policy::evaluation(resolved, &policy_path, episodes, &seeds)?
    };
    let mut record = snapshot.evaluation_record(&evaluation);
    record.push(("best", f64::from(u8::from(is_best))));
    log.record("final", &record);
    log.flush()?;
    let report = report::write(run.path())?;
    say(&format!("evaluation  {}", describe(&evaluation)));
    let policy = if is_best { "best" } else { "newest" };
    let version = evaluation.version.0;
    say(&format!("policy      {}, the {policy}, version {version}", policy_path.display()));
    say(&format!("checkpoint  {}", path.display()));
    say(&format!("report      {}", report.display()));
    Ok(())
}

/// The evaluator may not have seen the newest policy: in a run of seconds it saw only the first ones.
fn offer_newest(process: &Process, run: &RunDir, checkpoint: &Path) -> anyhow::Result<Evaluation> {
    let config = &process.resolved.config;
    let (newest, arch) = PolicySnapshot::load(&checkpoint.join(POLICY))?;
    let (episodes, seeds) = (config.evaluator.episodes, process.seeds.role("last evaluation"));
    let evaluation = run_policy::evaluation(&process.resolved, checkpoint, episodes, &seeds)?;
    BestPolicy::open(run.path(), config.returns_are_costs())?.offer(&evaluation, &newest, &arch)?;
    Ok(evaluation)
}

/// `mean deterministic return -142.3 ± 35.1 (95%) over 20 episodes`.
pub fn describe(evaluation: &Evaluation) -> String {
    let Evaluation { mean, ci95, returns, .. } = evaluation;
    format!("mean deterministic return {mean:.1} ± {ci95:.1} (95%) over {} episodes", returns.len())
}
