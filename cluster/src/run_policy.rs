//! A run's policy: the best one that its evaluator saw, or that of the newest checkpoint.

use crate::run_dir::RunDir;
use actor_node::best::best_policy;
use actor_node::env::Setup;
use actor_node::evaluation::{Evaluation, evaluate};
use anyhow::bail;
use common::config::Resolved;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use common::runtime::seed::SeedTree;
use learner::checkpoint;
use std::path::{Path, PathBuf};

/// Name of the policy in a checkpoint, and in the folder of the best one.
pub(crate) const POLICY: &str = "policy.safetensors";

/// Evaluates the policy of a checkpoint, or the best one.
///
/// # Errors
/// The policy cannot be read, or the environment fails.
pub fn evaluation(
    resolved: &Resolved,
    path: &Path,
    episodes: usize,
    seeds: &SeedTree,
) -> anyhow::Result<Evaluation> {
    let (mut policy, version) = load(path)?;
    let cluster = &resolved.config.cluster;
    let setup = Setup::new(&resolved.config);
    Ok(evaluate(&cluster.env, &setup, &mut policy, version, episodes, seeds)?)
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
