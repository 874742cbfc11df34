//! The end of a run: the final evaluation, the report, and what the user is told.

use crate::progress::say;
use crate::report;
use crate::run_dir::RunDir;
use actor_node::best::best_policy;
use actor_node::env::Setup;
use actor_node::evaluation::{Evaluation, evaluate};
use actor_node::trajectories::TrajectoryLog;
use anyhow::bail;
use common::config::Resolved;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use common::process::Process;
use common::runtime::seed::SeedTree;
use learner::checkpoint::{self, Checkpoint};
use learner::run_log::RunLog;
use std::path::{Path, PathBuf};

/// Name of the policy in a checkpoint, and in the folder of the best one.
pub(crate) const POLICY: &str = "policy.safetensors";

/// Evaluates the run's policy ([`policy_of`]), logs it, writes the report and says where everything is.
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
    let policy_path = best_policy(run.path()).unwrap_or_else(|| path.to_owned());
    let seeds = process.seeds.role("final evaluation");
    let (episodes, resolved) = (config.evaluator.final_episodes, &process.resolved);
    let evaluation = if config.run.track_trajectories {
        let mut trajectories = TrajectoryLog::open(run.path(), "final")?;
        let (mut policy, version) = load_policy(&policy_path)?;
        let (env, setup) = (&config.cluster.env, Setup::new(config));
        trajectories.evaluate(env, &setup, &mut policy, version, episodes, &seeds)?
    } else {
        policy_evaluation(resolved, &policy_path, episodes, &seeds)?
    };
    let snapshot =
        crate::progress::Snapshot { updates: checkpoint.state.updates, ..Default::default() };
    log.record("final", &crate::train::evaluation_record(&evaluation, &snapshot)[1..]);
    log.flush()?;
    let report = report::write(run.path())?;
    say(&format!("evaluation  {}", describe(&evaluation)));
    say(&format!("policy      {}, version {}", policy_path.display(), evaluation.version.0));
    say(&format!("checkpoint  {}", path.display()));
    say(&format!("report      {}", report.display()));
    Ok(())
}

/// `mean deterministic return -142.3 ± 35.1 (95%) over 20 episodes`.
pub fn describe(evaluation: &Evaluation) -> String {
    let Evaluation { mean, ci95, returns, .. } = evaluation;
    format!("mean deterministic return {mean:.1} ± {ci95:.1} (95%) over {} episodes", returns.len())
}

/// Evaluates the policy of a checkpoint, or the best one.
///
/// # Errors
/// The policy cannot be read, or the environment fails.
pub fn policy_evaluation(
    resolved: &Resolved,
    path: &Path,
    episodes: usize,
    seeds: &SeedTree,
) -> anyhow::Result<Evaluation> {
    let (mut policy, version) = load_policy(path)?;
    let cluster = &resolved.config.cluster;
    let setup = Setup::new(&resolved.config);
    Ok(evaluate(&cluster.env, &setup, &mut policy, version, episodes, seeds)?)
}

/// The policy in that folder, a checkpoint or the best one, and its version.
///
/// # Errors
/// It cannot be read.
pub fn load_policy(path: &Path) -> anyhow::Result<(PolicyNet, PolicyVersion)> {
    let (snapshot, arch) = PolicySnapshot::load(&path.join(POLICY))?;
    let mut policy = PolicyNet::new(&arch)?;
    policy.set_weights(&snapshot.weights)?;
    Ok((policy, snapshot.version))
}

/// The folder of a run's policy: the best one of those that were evaluated, or the newest checkpoint where none was or
/// `newest` asks for it.
///
/// # Errors
/// There is neither.
pub fn policy_of(run: &RunDir, newest: bool) -> anyhow::Result<PathBuf> {
    match best_policy(run.path()) {
        Some(best) if !newest => Ok(best),
        _ => newest_checkpoint(run),
    }
}

/// The newest checkpoint of a run.
///
/// # Errors
/// There is none.
pub fn newest_checkpoint(run: &RunDir) -> anyhow::Result<PathBuf> {
    match checkpoint::newest(&run.checkpoints())? {
        Some(path) => Ok(path),
        None => bail!("{} holds no checkpoint yet", run.path().display()),
    }
}
