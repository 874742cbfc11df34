//! [`Start`]: what learning starts from: fresh parameters, or the newest whole checkpoint of a run, under settings that may
//! have changed since.

use crate::backend;
use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::init;
use crate::run_log::RunLog;
use crate::trainer::TrainState;
use common::config::{Change, Config, Resolved};
use common::run_dir::RunDir;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use std::path::PathBuf;
use tracing::info;

/// Learning starts from this.
#[derive(Debug)]
pub struct Start {
    /// The state.
    pub checkpoint: Checkpoint,
    /// Where it was read; `None` for fresh parameters.
    pub from: Option<PathBuf>,
    /// Newer checkpoints that are damaged, with what is wrong with them.
    pub damaged: Vec<(PathBuf, CheckpointError)>,
    /// The settings that are others than before.
    pub changes: Vec<Change>,
}

impl Start {
    /// A run that begins.
    pub fn fresh(resolved: &Resolved, spec: &EnvSpec) -> Self {
        let config = backend::trainer_config(&resolved.config, spec);
        let seeds = SeedTree::new(resolved.config.run.seed).role("learner");
        let state = init::train_state(&config, &mut seeds.role("parameters").rng());
        let (damaged, changes) = (Vec::new(), Vec::new());
        Self { checkpoint: Checkpoint::fresh(state), from: None, damaged, changes }
    }

    /// A run that goes on with these settings. One that ended before its first checkpoint begins again. Writes nothing.
    ///
    /// # Errors
    /// Settings that cannot change differ from the run's; no checkpoint is whole, or the newest whole one does not fit.
    pub fn resume(run: &RunDir, resolved: &Resolved, spec: &EnvSpec) -> anyhow::Result<Self> {
        let changes = resolved.changes_of_run(run.path())?;
        let config = backend::trainer_config(&resolved.config, spec);
        let found = checkpoint::newest_whole(&run.checkpoints())?;
        let Some(path) = found.whole else {
            return Ok(Self { changes, ..Self::fresh(resolved, spec) });
        };
        let mut checkpoint = checkpoint::load(&path, &config)?;
        apply(&changes, &resolved.config, &mut checkpoint.state);
        Ok(Self { checkpoint, from: Some(path), damaged: found.damaged, changes })
    }

    /// Sets damaged checkpoints aside, so that training may write theirs anew, and notes in the run's log what changed.
    ///
    /// # Errors
    /// A damaged checkpoint cannot be renamed.
    pub fn begin(&self, log: &RunLog) -> Result<(), CheckpointError> {
        for (path, _) in &self.damaged {
            checkpoint::set_aside(path)?;
        }
        let updates = self.checkpoint.state.updates;
        log.counts().resume(&self.checkpoint.counters, updates);
        log.changed(&self.changes);
        if let Some(from) = &self.from {
            info!(from = %from.display(), updates, "resuming");
        }
        Ok(())
    }

    /// Notes for a person, a line each: damage and changes.
    pub fn notes(&self) -> Vec<String> {
        let damaged = self.damaged.iter().map(|(path, error)| {
            let before = self.from.as_deref().unwrap_or(path).display();
            format!("{} is damaged ({error}): going on from {before}", path.display())
        });
        let changed = self
            .changes
            .iter()
            .map(|Change { key, old, new }| format!("{key} = {new} from here on, it was {old}"));
        damaged.chain(changed).collect()
    }
}

/// Starting values that were set anew take effect: the multipliers begin there again, with moments of zero.
fn apply(changes: &[Change], config: &Config, state: &mut TrainState) {
    let starts = [
        ("learner.alpha_init", &mut state.log_alpha, config.learner.alpha_init),
        ("lac.lambda_init", &mut state.log_lambda, config.lac.lambda_init),
    ];
    for (name, group, value) in starts {
        if changes.iter().any(|change| change.key == name) {
            *group = init::group(vec![value.ln(); group.params.len()]);
        }
    }
}
