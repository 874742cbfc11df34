//! Access to the policy of a run: the best policy that the evaluator found, or the policy of the newest checkpoint.

use actor_node::evaluation::{
    ActionMode, EpisodeRunner, Episodes, Evaluation, EvaluationError, Plan, best_policy,
};
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

/// Evaluates the policy in the folder `path` with deterministic actions for `episodes` episodes.
///
/// # Errors
/// Returns an error if the policy cannot be read or does not fit the environment, or if the environment fails.
pub fn evaluation(
    resolved: &Resolved,
    path: &Path,
    episodes: usize,
    seeds: SeedTree,
) -> anyhow::Result<Evaluation> {
    let (mut policy, version) = load(path)?;
    let mut runner = runner(resolved, Plan::without_stop(&resolved.config), &policy)?;
    let acting = ActionMode::Deterministic;
    let episodes = Episodes { policy: &mut policy, version, count: episodes, seeds, acting };
    runner.run(episodes, &mut ()).map_err(blame)
}

/// Creates a runner of episodes in the configured environment and checks that the policy can act in it.
///
/// # Errors
/// Returns an error if the environment does not exist or its shapes differ from those of the policy.
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

/// Converts an evaluation error. An environment error is unwrapped, so that callers can recognise an error that the
/// user can fix.
pub(crate) fn blame(error: EvaluationError) -> anyhow::Error {
    match error {
        EvaluationError::Env(error) => error.into(),
        error => error.into(),
    }
}

/// Loads the policy in a folder (a checkpoint, or the best policy of a run) and its version.
///
/// # Errors
/// Returns an error if the policy cannot be read.
pub fn load(path: &Path) -> anyhow::Result<(PolicyNet, PolicyVersion)> {
    let (snapshot, arch) = PolicySnapshot::load(&path.join(POLICY))?;
    let mut policy = PolicyNet::new(&arch)?;
    policy.set_weights(&snapshot.weights)?;
    Ok((policy, snapshot.version))
}

/// Returns the folder of the policy with the best evaluation. If no policy was evaluated, or if `newest` is set,
/// returns the newest undamaged checkpoint.
///
/// # Errors
/// Returns an error if the newest checkpoint is needed and the run has no undamaged one.
pub fn folder(run: &RunDir, newest: bool) -> anyhow::Result<PathBuf> {
    match best_policy(run.path()) {
        Some(best) if !newest => Ok(best),
        _ => newest_checkpoint(run),
    }
}

/// Returns the newest undamaged checkpoint of a run. Reports newer checkpoints that are damaged on standard error.
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
