//! [`Start`]: the state from which learning starts. A new run starts from fresh parameters. A resumed run starts from
//! its newest undamaged checkpoint, possibly with changed settings.

use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::init;
use crate::run_log::RunLog;
use crate::trainer::{TrainState, TrainerConfig};
use common::config::{Change, Config, Resolved};
use common::run_dir::RunDir;
use common::runtime::seed::SeedTree;
use common::spec::EnvSpec;
use std::path::PathBuf;
use tracing::info;

/// Start of learning.
#[derive(Debug)]
pub struct Start {
    /// State to start from.
    pub checkpoint: Checkpoint,
    /// Path of the checkpoint that was read. `None` for fresh parameters.
    pub from: Option<PathBuf>,
    /// Damaged checkpoints that are newer than `from`, each with the error found.
    pub damaged: Vec<(PathBuf, CheckpointError)>,
    /// Settings that have changed since the previous start of the run.
    pub changes: Vec<Change>,
}

impl Start {
    /// Creates the start of a new run.
    pub fn fresh(resolved: &Resolved, spec: &EnvSpec) -> Self {
        let config = TrainerConfig::new(&resolved.config, spec);
        let seeds = SeedTree::new(resolved.config.run.seed).role("learner");
        let state = init::train_state(&config, &mut seeds.role("parameters").rng());
        let (damaged, changes) = (Vec::new(), Vec::new());
        Self { checkpoint: Checkpoint::fresh(state), from: None, damaged, changes }
    }

    /// Determines the start of a run that continues with these settings. If the run ended before its first checkpoint,
    /// it starts from fresh parameters again. Writes nothing.
    ///
    /// # Errors
    /// Returns an error if a setting has changed that must not change, if all checkpoints are damaged, or if the newest
    /// undamaged checkpoint does not fit the settings.
    pub fn resume(run: &RunDir, resolved: &Resolved, spec: &EnvSpec) -> anyhow::Result<Self> {
        let changes = resolved.changes_of_run(run.path())?;
        let config = TrainerConfig::new(&resolved.config, spec);
        let found = checkpoint::newest_whole(&run.checkpoints())?;
        let Some(path) = found.whole else {
            return Ok(Self { changes, ..Self::fresh(resolved, spec) });
        };
        let mut checkpoint = checkpoint::load(&path, &config)?;
        apply(&changes, &resolved.config, &mut checkpoint.state);
        Ok(Self { checkpoint, from: Some(path), damaged: found.damaged, changes })
    }

    /// Renames damaged checkpoints, so that training can write new checkpoints in their place. Continues the run's
    /// counts from the checkpoint. Records the changed settings in the run's log.
    ///
    /// # Errors
    /// Returns an error if a damaged checkpoint cannot be renamed.
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

    /// Returns notes for the user about damaged checkpoints and changed settings. Each note is one line.
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

/// Applies changed initial values of the temperature and of LAC's multiplier. A changed value restarts the parameter
/// from this value, with Adam's moments at zero.
fn apply(changes: &[Change], config: &Config, state: &mut TrainState) {
    let starts = [
        ("learner.alpha_init", &mut state.log_alpha, config.training.alpha_init),
        ("lac.lambda_init", &mut state.log_lambda, config.lac.lambda_init),
    ];
    for (name, group, value) in starts {
        if changes.iter().any(|change| change.key == name) {
            *group = init::group(vec![init::logarithm(value); group.params.len()]);
        }
    }
}
