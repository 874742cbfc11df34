//! A run's policy: the best one that its evaluator saw, or that of the newest checkpoint.

use actor_node::best::best_policy;
use actor_node::evaluation::{Acting, EpisodeRunner, Evaluation, EvaluationError, Plan};
use anyhow::bail;
use common::config::Resolved;
use common::ids::PolicyVersion;
use common::policy::arch::Head;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use common::run_dir::{POLICY, RunDir};
use common::runtime::seed::SeedTree;
use common::spec::ActionKind;
use learner::checkpoint;
use std::path::{Path, PathBuf};

/// Evaluates the policy of a checkpoint, or the best one.
///
/// # Errors
/// The policy cannot be read or is not for the environment, or that fails.
pub fn evaluation(
    resolved: &Resolved,
    path: &Path,
    episodes: usize,
    seeds: &SeedTree,
) -> anyhow::Result<Evaluation> {
    let (mut policy, version) = load(path)?;
    let mut runner = runner(resolved, Plan::without_stop(&resolved.config), &policy)?;
    let (policy, acting) = ((&mut policy, version), Acting::Deterministic);
    runner.run(policy, episodes, seeds, acting, &mut ()).map_err(blame)
}

/// The runner of episodes in the configured environment. The policy can act in it.
///
/// # Errors
/// There is no such environment, or it has other shapes than the policy.
pub fn runner(
    resolved: &Resolved,
    plan: Plan,
    policy: &PolicyNet,
) -> anyhow::Result<EpisodeRunner> {
    let mut runner = EpisodeRunner::new(plan);
    let (spec, arch) = (runner.env()?.spec(), policy.arch());
    let is_discrete = matches!(arch.head, Head::Categorical);
    for (key, found, expected) in [
        ("cluster.obs_dim", spec.obs_dim, arch.obs_dim),
        ("cluster.act_dim", spec.act_dim, arch.act_dim),
    ] {
        if found != expected {
            let expected = format!("{} has {found}, the policy {expected}", spec.id);
            return Err(resolved.invalid(key, expected).into());
        }
    }
    if is_discrete != (spec.actions == ActionKind::Discrete) {
        let expected = format!("{} has {:?} actions, the policy not", spec.id, spec.actions);
        return Err(resolved.invalid("cluster.actions", expected).into());
    }
    Ok(runner)
}

/// The error with the environment's own beneath it, which may be the user's to mend.
pub(crate) fn blame(error: EvaluationError) -> anyhow::Error {
    match error {
        EvaluationError::Env(error) => error.into(),
        error => error.into(),
    }
}

/// The policy in that folder, a checkpoint or the best one, and its version.
///
/// # Errors
/// It cannot be read.
pub fn load(path: &Path) -> anyhow::Result<(PolicyNet, PolicyVersion)> {
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
pub fn folder(run: &RunDir, newest: bool) -> anyhow::Result<PathBuf> {
    match best_policy(run.path()) {
        Some(best) if !newest => Ok(best),
        _ => newest_checkpoint(run),
    }
}

/// The newest whole checkpoint of a run. Newer ones that are damaged are named on standard error.
#[expect(clippy::print_stderr, reason = "for the person who typed the command")]
fn newest_checkpoint(run: &RunDir) -> anyhow::Result<PathBuf> {
    let found = checkpoint::newest_whole(&run.checkpoints())?;
    let Some(whole) = found.whole else {
        bail!("{} holds no checkpoint yet", run.path().display());
    };
    for (path, error) in &found.damaged {
        let (path, whole) = (path.display(), whole.display());
        eprintln!("sapex: {path} is damaged ({error}): {whole} is taken instead");
    }
    Ok(whole)
}
