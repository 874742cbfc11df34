//! `--lockstep`: runs the roles one after the other on one thread, with one actor, one table and an exact ratio of
//! updates to rows. Two runs with the same seed are identical. This mode is also useful to step through the code with a
//! debugger.

use crate::finish;
use crate::goal::Goal;
use crate::progress::{ActorStats, ProgressDisplay, RunStats, say};
use actor_node::actor::{Actor, Share};

use actor_node::service::{ActorNode, Evaluator, figures};
use anyhow::Context;
use common::config::{ConfigError, Durability, Resolved};
use common::ids::ActorId;
use common::policy::snapshot::PolicySnapshot;
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::seed::SavedRng;
use learner::batch::{BatchPart, Columns, ReadyBatch, importance_weights};
use learner::checkpoint::{self, Checkpoint, Contents};
use learner::counts::Counts;
use learner::exchange::Priorities;
use learner::publisher::Publication;
use learner::resume::Start;
use learner::run_log::RunLog;
use learner::trainer::TrainerConfig;
use learner::updates::{Due, TrainingError, Updates};
use rand_pcg::Pcg64;
use replay_server::saved::SavedReplay;
use replay_server::service::table_config;
use replay_server::table::{SampleBlock, Table};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

/// Name of the sampling generator in a checkpoint.
const SAMPLING: &str = "sampling";
/// Id of the only actor.
const ACTOR: u32 = 0;

/// Checks that the settings are possible with one thread, one actor and one table.
///
/// # Errors
/// Returns an error for the first setting that does not fit.
pub fn check(resolved: &Resolved) -> Result<(), ConfigError> {
    let config = &resolved.config;
    let cannot =
        |key: &str, what: &str| Err(resolved.invalid(key, format!("{what} with --lockstep")));
    if !config.offline.dataset.is_empty() {
        return cannot("offline.dataset", "no recorded data");
    }
    if !config.learner.watch.is_empty() {
        return cannot("learner.watch", "no watched file");
    }
    if config.run.actors > 1 {
        return cannot("run.actors", "1: there is one actor");
    }
    if config.replay.shards > 1 {
        return cannot("replay.shards", "1: there is one table");
    }
    if config.replay.durability != Durability::None {
        return cannot(
            "replay.durability",
            "none: rows newer than the checkpoint cannot be repeated",
        );
    }
    Ok(())
}

/// State of a lockstep run: the parts of the learner, the replay, the actor and the evaluator.
struct Lockstep<'a> {
    process: &'a Process,
    run: &'a RunDir,
    log: &'a RunLog,
    counts: Counts,
    trainer: TrainerConfig,
    updates: Updates,
    table: Table,
    /// Files that keep the table's rows between two starts. `None` unless `run.save_replay` is set.
    saved: Option<SavedReplay>,
    columns: Columns,
    sampling: Pcg64,
    actor: Actor,
    evaluator: Evaluator,
    /// The newest published weights, which the actor uses.
    newest: Option<Publication>,
    /// Mean return of the latest evaluation.
    eval_return: Option<f64>,
    goal: Goal,
    /// Message that explains why the run counts as solved. `None` while it is not solved.
    solved: Option<String>,
    /// Episodes that earlier starts of this run completed.
    episodes_before: u64,
}

/// Trains in lockstep, evaluates the policy and writes the report.
///
/// # Errors
/// Returns an error in the same cases as [`crate::train::train`].
pub fn train(process: &Process, run: &RunDir, start: Start) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let log = RunLog::open(run.path(), &process.clock)?;
    start.begin(&log)?;
    log.started(&crate::BUILD);
    let mut parts = Lockstep::new(process, run, &log, start.checkpoint)?;
    let limit = config.run.env_steps;
    let mut progress = ProgressDisplay::new(std::io::stdout().is_terminal(), limit);
    let trained = parts.train(&mut progress);
    log.counts().end();
    progress.end(&parts.snapshot(), parts.solved.is_some());
    if let Some(reached) = &parts.solved {
        say(&format!("stopping: {reached}"));
    }
    // If an update diverged, the checkpoint holds the state before that update.
    let checkpoint = parts.checkpoint();
    let failed = trained.as_ref().err().and_then(|error| error.downcast_ref());
    if matches!(failed, Some(TrainingError::Trainer { .. })) {
        return trained;
    }
    let path = parts.save(&checkpoint)?;
    if let Some(saved) = &parts.saved {
        saved.save(std::slice::from_ref(&parts.table))?;
    }
    trained?;
    finish::finish(process, run, &path, &log)
}

impl<'a> Lockstep<'a> {
    /// Creates the parts of a fresh run, or of a resumed run from its checkpoint.
    fn new(
        process: &'a Process,
        run: &'a RunDir,
        log: &'a RunLog,
        start: Checkpoint,
    ) -> anyhow::Result<Self> {
        let config = &process.resolved.config;
        let spec = process.resolved.env_spec()?;
        let layout = config.item_layout(&spec);
        let trainer = TrainerConfig::new(config, &spec);
        let seeds = process.seeds.role("learner");
        let counts = log.counts();
        let share = Share { done: counts.now().env_steps, max: config.run.env_steps };
        let node = ActorNode::new(process.clone(), ACTOR, share, Some(run.path()))?;
        let sampling = start.generators.get(SAMPLING).map(SavedRng::restore);
        let (resolved, dir) = (&process.resolved, run.path());
        let mut table = Table::new(&table_config(config, &layout))?;
        let saved = SavedReplay::of_run(run, 0, config, &spec);
        if let Some(saved) = &saved {
            saved.load(std::slice::from_mut(&mut table))?;
        }
        let mut parts = Self {
            process,
            run,
            log,
            counts: counts.clone(),
            updates: Updates::new(resolved, &spec, &start, counts.clone(), &seeds, dir)?,
            table,
            saved,
            columns: Columns::new(&layout),
            sampling: sampling.unwrap_or_else(|| seeds.role(SAMPLING).rng()),
            actor: node.into_actor(),
            evaluator: Evaluator::new(process.clone(), Some(run.path()))?,
            newest: None,
            eval_return: None,
            goal: Goal::new(resolved),
            solved: None,
            episodes_before: counts.now().episodes,
            trainer,
        };
        parts.publish()?;
        Ok(parts)
    }

    /// Alternates between one turn of the actor and the updates that are due, until the steps or updates are done, the
    /// target is reached or a stop is requested.
    fn train(&mut self, progress: &mut ProgressDisplay) -> anyhow::Result<()> {
        let limit = self.process.resolved.config.run.env_steps;
        let goes_on = |parts: &Self| {
            (limit == 0 || parts.actor.steps() < limit)
                && !parts.updates.are_enough()
                && parts.solved.is_none()
                && !parts.process.shutdown.is_stopping()
        };
        let every = self.process.resolved.config.evaluator.interval_steps;
        while goes_on(self) {
            let before = self.actor.steps();
            self.actor.turn()?;
            let episodes = self.episodes_before + self.actor.counters().episodes();
            self.counts.acted(self.actor.steps(), episodes);
            while let Some(batch) = self.actor.take_rows(false) {
                // The updates below always run until the limiter allows no further sample. Therefore the limiter never
                // refuses this insert.
                self.table
                    .insert_of(ActorId(ACTOR), &batch.rows, None, Duration::ZERO)
                    .context("insert in lockstep")?;
                self.counts.shard_holds(0, self.table.limiter_counters().inserts);
            }
            while let Some(due) = self.update()? {
                self.keep_cadences(due)?;
                if self.updates.are_enough() {
                    break;
                }
            }
            // A turn steps every lane, so the step count may pass a multiple of `every` without being equal to it.
            if every > 0 && before / every < self.actor.steps() / every {
                self.evaluate()?;
            }
            progress.show(&self.snapshot());
        }
        self.updates.settle(&mut |priorities| store(&mut self.table, &priorities))?;
        self.report();
        Ok(())
    }

    /// Does one update. Returns `None` if the rate limiter does not allow a sample.
    fn update(&mut self) -> anyhow::Result<Option<Due>> {
        let (batch_size, beta) =
            (self.trainer.training.batch_size, self.updates.config().importance_sampling_exponent);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
        let share = batch_size as f64;
        if !self.table.can_sample(share) {
            return Ok(None);
        }
        let mut block = SampleBlock::default();
        self.table.sample(batch_size, share, &mut self.sampling, &mut block, Duration::ZERO)?;
        let weights = importance_weights(block.probabilities.iter().copied(), beta);
        let SampleBlock { keys, probabilities, rows, actors } = block;
        let part = BatchPart { shard: 0, keys, probabilities, rows: rows.into(), actors };
        let batch = ReadyBatch::new(&self.columns, vec![part], &[], &weights);
        let table = &mut self.table;
        let stepped = self.updates.step(batch, &mut |priorities| store(table, &priorities));
        for (update, item) in self.updates.take_refused() {
            self.log.refused(update, &item);
        }
        Ok(Some(stepped?))
    }

    fn keep_cadences(&mut self, due: Due) -> anyhow::Result<()> {
        if due.publish {
            self.publish()?;
        }
        if due.report {
            self.report();
        }
        if due.checkpoint {
            self.save(&self.checkpoint())?;
        }
        Ok(())
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let publication = self.updates.publish();
        self.actor.use_weights(publication.version, &publication.weights)?;
        self.newest = Some(publication);
        Ok(())
    }

    /// Evaluates the weights that the actor uses, logs the result and updates the goal.
    fn evaluate(&mut self) -> anyhow::Result<()> {
        let config = &self.process.resolved.config.evaluator;
        let Some(Publication { version, weights, .. }) = &self.newest else { return Ok(()) };
        if config.episodes == 0 {
            return Ok(());
        }
        let policy = PolicySnapshot::new(*version, &self.trainer.policy, weights.to_vec())?;
        let round = self.actor.steps() / config.interval_steps;
        if let Some(evaluation) = self.evaluator.evaluate(&policy, round)? {
            self.log.eval(&figures::of_evaluation(&evaluation), &evaluation.terms);
            self.eval_return = Some(evaluation.mean);
            self.solved = self.goal.evaluated(evaluation.mean);
        }
        Ok(())
    }

    fn report(&mut self) {
        if let Some(progress) = self.updates.report() {
            self.log.train(&progress);
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        self.updates.checkpoint(&[(SAMPLING, &self.sampling)])
    }

    fn save(&self, checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
        let config = &self.process.resolved.config.learner;
        let toml = self.process.resolved.to_toml();
        let contents = Contents::new(&config.checkpoint_contents);
        let (dir, clock) = (self.run.checkpoints(), &self.process.clock);
        let path = checkpoint::save(&dir, checkpoint, &self.trainer, &contents, &toml, clock)?;
        checkpoint::prune(&dir, config.checkpoint_keep)?;
        Ok(path)
    }

    fn snapshot(&self) -> RunStats {
        let now = self.counts.now();
        let batch_size = self.trainer.training.batch_size as u64;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let (done, steps, samples) =
            (now.updates as f64, now.env_steps as f64, (now.updates * batch_size) as f64);
        RunStats {
            elapsed: now.time,
            acting: Some(ActorStats {
                env_steps: now.env_steps,
                lag_versions: 0.0,
                samples_per_insert: samples / steps.max(1.0),
            }),
            updates: now.updates,
            updates_per_second: done / now.time.as_secs_f64().max(1e-9),
            train_return: self.actor.counters().return_mean(),
            eval_return: self.eval_return,
            ..RunStats::default()
        }
    }
}

fn store(table: &mut Table, priorities: &Priorities) {
    for (_, keys) in &priorities.origins {
        table.update_priorities(keys, &priorities.td_abs);
    }
}
