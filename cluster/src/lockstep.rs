//! `--lockstep`: the same parts on one thread, in turn. One actor, one table, an exact ratio of updates to rows: the same
//! run twice from the same seed, and the place to step through with a debugger.

use crate::finish;
use crate::progress::{Acting, Progress, Snapshot};
use actor_node::service::ActorNode;
use anyhow::Context;
use common::ids::PolicyVersion;
use common::process::Process;
use common::run_dir::RunDir;
use common::runtime::seed::SavedRng;
use learner::backend;
use learner::batch::{Columns, Part, ReadyBatch, importance_weights};
use learner::checkpoint::{self, Checkpoint, Contents};
use learner::noise::NoiseBuffers;
use learner::resume::Start;
use learner::run_log::RunLog;
use learner::schedule::StepSchedules;
use learner::track::Tracker;
use learner::trainer::{Trainer, UpdateStats};
use learner::training_loop::NOISE;
use rand_pcg::Pcg64;
use replay_server::saved::SavedReplay;
use replay_server::service::table_config;
use replay_server::table::{SampleBlock, Table};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Name of the sampling generator in a checkpoint.
const SAMPLING: &str = "sampling";

/// The learner's side: everything between a sampled block and new weights.
struct Updates {
    trainer: Box<dyn Trainer + Send>,
    steps: StepSchedules,
    columns: Columns,
    noise: Pcg64,
    sampling: Pcg64,
    draws: NoiseBuffers,
    td_abs: Vec<f32>,
    beta: f64,
    parameters: usize,
    done: u64,
    /// Where the statistics of every update go, where they are asked for, and what it has taken from the trainer since the last
    /// report.
    tracker: Option<(Tracker, UpdateStats)>,
    /// Newest losses, for checkpoints.
    losses: BTreeMap<String, f64>,
}

/// Trains in lockstep, evaluates, reports.
///
/// # Errors
/// As `sapex train`.
pub fn train(process: &Process, run: &RunDir, start: Start) -> anyhow::Result<()> {
    let config = &process.resolved.config;
    let spec = process.resolved.env_spec()?;
    let log = RunLog::open(run.path(), &process.clock)?;
    log.started(&crate::BUILD);
    start.begin(&log)?;
    let mut table = Table::new(&table_config(config, &config.item_layout(&spec)))?;
    let saved = SavedReplay::of_run(run, 0, config, &spec);
    if let Some(saved) = &saved {
        saved.load(std::slice::from_mut(&mut table))?;
    }
    let node = ActorNode::new(process.clone(), 0, config.run.env_steps, Some(run.path()))?;
    let mut actor = node.into_actor();
    let (mut updates, mut version) = Updates::new(process, run, start.checkpoint)?;
    actor.use_weights(version, &updates.weights())?;
    let mut progress = Progress::new(std::io::stdout().is_terminal(), config.run.env_steps);
    let began = process.clock.now();
    while actor.steps() < config.run.env_steps && !process.shutdown.is_stopping() {
        actor.turn()?;
        while let Some(batch) = actor.take_rows(false) {
            // The limiter holds inserts until the updates below have caught up, so this never waits.
            table.insert(&batch.rows, None, Duration::ZERO).context("insert in lockstep")?;
        }
        while updates.step(&mut table, config.learner.batch_size)? {
            if updates.done.is_multiple_of(config.learner.publish_updates) {
                version.0 += 1;
                actor.use_weights(version, &updates.weights())?;
            }
            if updates.done.is_multiple_of(config.learner.log_updates) {
                updates.report(&log, version);
            }
        }
        progress.show(&snapshot(process, began, actor.steps(), &updates));
    }
    progress.end(&snapshot(process, began, actor.steps(), &updates), false);
    if let Some((tracker, _)) = &mut updates.tracker {
        tracker.flush()?;
    }
    let checkpoint = updates.checkpoint(version);
    let sac = backend::trainer_config(config, &spec);
    let toml = process.resolved.to_toml();
    let contents = Contents::new(&config.learner.checkpoint_contents);
    let (dir, clock) = (run.checkpoints(), &process.clock);
    let path = checkpoint::save(&dir, &checkpoint, &sac, &contents, &toml, clock)?;
    if let Some(saved) = &saved {
        saved.save(std::slice::from_ref(&table))?;
    }
    finish::finish(process, run, &checkpoint, &path, &log)
}

fn snapshot(process: &Process, began: Duration, env_steps: u64, updates: &Updates) -> Snapshot {
    let elapsed = process.clock.now().saturating_sub(began);
    let batch_size = process.resolved.config.learner.batch_size as u64;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let (done, steps, samples) =
        (updates.done as f64, env_steps as f64, (updates.done * batch_size) as f64);
    Snapshot {
        elapsed,
        acting: Some(Acting {
            env_steps,
            lag_versions: 0.0,
            samples_per_insert: samples / steps.max(1.0),
        }),
        updates: updates.done,
        updates_per_second: done / elapsed.as_secs_f64().max(1e-9),
        ..Snapshot::default()
    }
}

impl Updates {
    /// Those of a fresh run, or of one that goes on, and how often it has published.
    fn new(
        process: &Process,
        run: &RunDir,
        start: Checkpoint,
    ) -> anyhow::Result<(Self, PolicyVersion)> {
        let config = &process.resolved.config;
        let spec = process.resolved.env_spec()?;
        let sac = backend::trainer_config(config, &spec);
        let seeds = process.seeds.role("learner");
        let generator = |name: &str| {
            start.generators.get(name).map_or_else(|| seeds.role(name).rng(), SavedRng::restore)
        };
        let (noise, sampling) = (generator(NOISE), generator(SAMPLING));
        let parameters = sac.policy.tensor_layout().parameters;
        let track = config.run.track_metrics;
        let tracker = track.then(|| Tracker::open(run.path(), &sac, start.state.clone()));
        let tracker = tracker.transpose().context("run.track_metrics")?;
        let trainer = backend::build(&process.resolved, sac, &start.state)?;
        let updates = Self {
            parameters,
            tracker: tracker.map(|tracker| (tracker, UpdateStats::default())),
            losses: BTreeMap::new(),
            draws: NoiseBuffers::new(trainer.noise_sizes()),
            trainer,
            steps: StepSchedules::new(config),
            columns: Columns::new(&config.item_layout(&spec)),
            noise,
            sampling,
            td_abs: vec![0.0; config.learner.batch_size],
            beta: config.learner.importance_beta,
            done: start.state.updates,
        };
        Ok((updates, start.policy_version))
    }

    /// One update, if the limiter agrees.
    fn step(&mut self, table: &mut Table, batch_size: usize) -> anyhow::Result<bool> {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
        let share = batch_size as f64;
        if !table.can_sample(share) {
            return Ok(false);
        }
        let mut block = SampleBlock::default();
        table.sample(batch_size, share, &mut self.sampling, &mut block, Duration::ZERO)?;
        let weights = importance_weights(block.probabilities.iter().copied(), self.beta);
        let SampleBlock { keys, probabilities, rows } = block;
        let part = Part { shard: 0, keys, probabilities, rows: rows.into() };
        let batch = ReadyBatch::new(&self.columns, vec![part], &[], &weights);
        let noise = self.draws.draw(&mut self.noise);
        self.trainer.update(&batch.columns(), &noise, &self.steps.at(self.done))?;
        self.trainer.pop_td_abs(&mut self.td_abs)?;
        table.update_priorities(&batch.origins[0].1, &self.td_abs);
        if let Some((tracker, stats)) = &mut self.tracker {
            stats.merge(&tracker.updated(&mut *self.trainer, &self.td_abs)?);
        }
        self.done += 1;
        Ok(true)
    }

    fn weights(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.parameters];
        self.trainer.actor_params(&mut weights);
        weights
    }

    fn report(&mut self, log: &RunLog, version: PolicyVersion) {
        let stats = match &mut self.tracker {
            Some((_, stats)) => std::mem::take(stats),
            None => self.trainer.take_stats(),
        };
        self.losses = checkpoint::losses(&stats);
        let progress = learner::progress::Progress {
            updates: self.done,
            version,
            stats,
            ..Default::default()
        };
        log.train(&progress, 1.0);
    }

    fn checkpoint(&self, version: PolicyVersion) -> Checkpoint {
        let generators = [(NOISE, &self.noise), (SAMPLING, &self.sampling)];
        Checkpoint {
            state: self.trainer.state(),
            policy_version: version,
            counters: BTreeMap::new(),
            generators: generators.map(|(name, rng)| (name.to_owned(), SavedRng::save(rng))).into(),
            losses: self.losses.clone(),
        }
    }
}
