//! [`Updates`]: does one training step, for the training loop and for `--lockstep`. A step draws the noise, determines
//! the step sizes, does the update, reads the |td|, handles divergence and collects statistics. It returns the work
//! that is due after the step.

use crate::backend::{self, BackendError};
use crate::batch::ReadyBatch;
use crate::checkpoint::{self, Checkpoint};
use crate::counts::Counts;
use crate::exchange::Priorities;
use crate::noise::NoiseBuffers;
use crate::progress::TrainingProgress;
use crate::publisher::Publication;
use crate::schedule::StepSchedules;
use crate::track::Tracker;
use crate::trainer::{Trainer, TrainerConfig, TrainerError, TrainingConfig, UpdateStats};
use common::config::{self, OnDivergence, Resolved};
use common::ids::{ActorId, PolicyVersion};
use common::runtime::seed::{SavedRng, SeedTree};
use common::spec::EnvSpec;
use common::wire::message::RunPosition;
use rand_pcg::Pcg64;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tracing::{error, warn};

/// Name of the noise's random number generator in a checkpoint.
pub const NOISE: &str = "noise";

/// Errors that end training early.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The backend failed.
    #[error("update {update} failed: {source}")]
    Trainer {
        /// Number of the update, counted from 1.
        update: u64,
        /// Error of the backend.
        source: TrainerError,
    },
    /// The file of `run.track_metrics` cannot be written.
    #[error("track_metrics: {0}")]
    Track(std::io::Error),
    /// An update was refused, and `learner.on_divergence` is "stop".
    #[error(
        "update {update} diverged and was refused: {item}; the state before it is kept. Look at that row, or try a lower \
         learner.lr_critic; learner.on_divergence=\"skip\" goes on without such updates"
    )]
    Diverged {
        /// Number of the update, counted from 1.
        update: u64,
        /// Item that most likely caused the divergence.
        item: Suspect,
    },
}

/// Item that most likely made an update diverge. It is the first item whose |td| is not finite. If every |td| is
/// finite, it is the item with the largest |td|.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Index of the item in the batch.
    pub index: usize,
    /// Index of the shard, and key of the item in the table of this shard. `None` for a recorded item.
    pub origin: Option<(usize, u64)>,
    /// Actor that inserted the item. `None` if this actor is not known.
    pub actor: Option<ActorId>,
    /// Reward of the item's first step.
    pub reward: f32,
    /// |td| of the item, computed by `learner.priority_rule`.
    pub td_abs: f32,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, origin, actor, reward, td_abs } = self;
        write!(f, "item {index} of the batch (")?;
        match (origin, actor) {
            (Some((shard, key)), Some(actor)) => {
                write!(f, "actor {actor}, shard {shard}, key {key}")?;
            }
            (Some((shard, key)), None) => {
                write!(f, "of no actor that is known, shard {shard}, key {key}")?;
            }
            (None, _) => write!(f, "a recorded one")?,
        }
        write!(f, ", reward {reward:e}) has |td| {td_abs:e}")
    }
}

/// Work that is due after an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Whether to publish new weights (`learner.publish_updates`).
    pub publish: bool,
    /// Whether to write a log line (`learner.log_updates`).
    pub report: bool,
    /// Whether to write a checkpoint (`learner.checkpoint_updates`).
    pub checkpoint: bool,
}

/// Sums over the updates since the last log line.
#[derive(Debug, Default)]
struct Window {
    began: Duration,
    waited: Duration,
    updates: u64,
    age: f64,
    ess: f64,
    /// Means over these updates. Used only with a tracker, because it takes the statistics from the trainer after every
    /// update.
    stats: UpdateStats,
}

/// State of the training steps: the trainer, the noise, the settings, and the statistics since the last report.
pub struct Updates {
    trainer: Box<dyn Trainer + Send>,
    noise: Pcg64,
    draws: NoiseBuffers,
    steps: StepSchedules,
    config: config::LearnerConfig,
    training: TrainingConfig,
    spec: EnvSpec,
    /// Number of parameters of the published policy.
    parameters: usize,
    tracker: Option<Tracker>,
    counts: Counts,
    version: PolicyVersion,
    done: u64,
    refused: u64,
    /// Refused updates that [`Updates::take_refused`] has not returned yet. Each entry is a pair: the number of the
    /// update, and the item that most likely made it diverge.
    blamed: Vec<(u64, Suspect)>,
    /// Batches of updates whose |td| has not been read yet, oldest first.
    pending: VecDeque<ReadyBatch>,
    td_abs: Vec<f32>,
    window: Window,
    losses: BTreeMap<String, f64>,
    /// Whether the temperature was at its upper bound at the last report.
    at_alpha_max: bool,
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Updates({}, {} done)", self.trainer.describe(), self.done)
    }
}

/// Reasons why [`Updates`] cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// There is no backend for these settings.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The file of `run.track_metrics` cannot be written.
    #[error("run.track_metrics: {0}")]
    Track(#[from] std::io::Error),
}

impl Updates {
    /// Creates the training steps of a run that starts or continues from `start`. `seeds` is the seed tree of the
    /// learner.
    ///
    /// # Errors
    /// Returns an error if there is no backend for these settings, or if `run.track_metrics` is set and the run
    /// directory cannot be written.
    pub fn new(
        resolved: &Resolved,
        spec: &EnvSpec,
        start: &Checkpoint,
        counts: Counts,
        seeds: &SeedTree,
        run_dir: &Path,
    ) -> Result<Self, BeginError> {
        let config = &resolved.config;
        let trainer_config = TrainerConfig::new(config, spec);
        let parameters = trainer_config.policy.tensor_layout().parameters;
        let track = || Tracker::open(run_dir, &trainer_config, start.state.clone());
        let tracker = config.run.track_metrics.then(track).transpose()?;
        let trainer = backend::build(resolved, trainer_config, &start.state)?;
        let saved = start.generators.get(NOISE).map(SavedRng::restore);
        Ok(Self {
            noise: saved.unwrap_or_else(|| seeds.role(NOISE).rng()),
            draws: NoiseBuffers::new(trainer.noise_sizes()),
            steps: StepSchedules::new(config),
            config: config.learner.clone(),
            training: config.training.clone(),
            spec: spec.clone(),
            parameters,
            tracker,
            window: Window { began: counts.now().time, ..Window::default() },
            counts,
            version: start.policy_version,
            done: start.state.updates,
            refused: 0,
            blamed: Vec::new(),
            pending: VecDeque::new(),
            td_abs: vec![0.0; config.training.batch_size],
            losses: start.losses.clone(),
            at_alpha_max: false,
            trainer,
        })
    }

    /// Returns the number of updates done, including those of earlier starts.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Returns the number of updates that were refused since this start; see `learner.on_divergence`.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the updates that were refused since the last call. Each entry is a pair: the number of the update, and
    /// the item that most likely made it diverge.
    pub fn take_refused(&mut self) -> Vec<(u64, Suspect)> {
        std::mem::take(&mut self.blamed)
    }

    /// Returns the number of publications so far.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// Returns the number of environment steps of the run so far.
    pub fn env_steps(&self) -> u64 {
        self.counts.env_steps()
    }

    /// Returns whether `learner.updates_max` is reached.
    pub fn are_enough(&self) -> bool {
        self.config.updates_max > 0 && self.done >= self.config.updates_max
    }

    /// Adds to the time that was spent waiting for batches.
    pub fn waited(&mut self, time: Duration) {
        self.window.waited += time;
    }

    /// Does one update on `batch`. Passes new priorities to `priorities`. On a CPU, these are the priorities of this
    /// update. On a GPU, they are the priorities of the previous update.
    ///
    /// # Errors
    /// Returns an error if the backend failed, if the statistics cannot be written, or if an update diverged and
    /// `learner.on_divergence` is "stop".
    pub fn step(
        &mut self,
        batch: ReadyBatch,
        priorities: &mut dyn FnMut(Priorities),
    ) -> Result<Due, TrainingError> {
        let (noise, sizes) = (self.draws.draw(&mut self.noise), self.steps.at(self.done));
        let updated = self.trainer.update(&batch.columns(), &noise, &sizes);
        self.done += 1;
        updated.map_err(|source| TrainingError::Trainer { update: self.done, source })?;
        #[expect(clippy::cast_precision_loss, reason = "versions are far below 2^53")]
        let age = batch.version_mean.map_or(0.0, |mean| self.version.0 as f64 - mean);
        self.window.age += age;
        self.window.ess += batch.weight_ess_ratio;
        self.window.updates += 1;
        self.pending.push_back(batch);
        let depth = if self.tracker.is_some() { 1 } else { self.trainer.pipeline_depth() };
        let done = self.done;
        while self.pending.len() >= depth {
            self.return_priorities(priorities)?;
        }
        self.counts.updated(self.done);
        if self.done < done {
            return Ok(Due::default());
        }
        if let Some(tracker) = &mut self.tracker {
            let stats = tracker.updated(&mut *self.trainer, &self.td_abs);
            self.window.stats.merge(&stats.map_err(TrainingError::Track)?);
        }
        let due = |every: u64| self.done.is_multiple_of(every);
        let config = &self.config;
        Ok(Due {
            publish: due(config.publish_updates),
            report: due(config.log_updates),
            checkpoint: due(config.checkpoint_updates),
        })
    }

    /// Waits for all updates whose |td| has not been read yet, and passes their priorities to `priorities`.
    ///
    /// # Errors
    /// Returns the same errors as [`Updates::step`].
    pub fn settle(&mut self, priorities: &mut dyn FnMut(Priorities)) -> Result<(), TrainingError> {
        while !self.pending.is_empty() {
            self.return_priorities(priorities)?;
        }
        self.counts.updated(self.done);
        match &mut self.tracker {
            Some(tracker) => tracker.flush().map_err(TrainingError::Track),
            None => Ok(()),
        }
    }

    /// Reads the |td| of the oldest update whose |td| has not been read yet, and passes it on as priorities. If the
    /// update was refused, corrects the counts and records the suspected item.
    fn return_priorities(
        &mut self,
        priorities: &mut dyn FnMut(Priorities),
    ) -> Result<(), TrainingError> {
        let Some(batch) = self.pending.pop_front() else { return Ok(()) };
        match self.trainer.pop_td_abs(&mut self.td_abs) {
            Ok(()) => {}
            Err(TrainerError::NotFinite) => {
                let (update, item) = (self.done, suspect(&batch, &self.td_abs));
                self.done -= 1;
                self.window.updates = self.window.updates.saturating_sub(1);
                self.refused += 1;
                self.blamed.push((update, item.clone()));
                if self.config.on_divergence == OnDivergence::Stop {
                    return Err(TrainingError::Diverged { update, item });
                }
                error!(update, %item, refused = self.refused, "update refused: it diverged");
                // Set the |td| of the suspected item and every |td| that is not finite to 0. The items concerned are
                // then unlikely to be drawn again and to cause another divergence. The other items keep their |td|.
                let blamed = item.index;
                for (index, td) in self.td_abs.iter_mut().enumerate() {
                    *td = if td.is_finite() && index != blamed { *td } else { 0.0 };
                }
            }
            Err(source) => return Err(TrainingError::Trainer { update: self.done, source }),
        }
        priorities(Priorities { origins: batch.origins, td_abs: self.td_abs.clone() });
        Ok(())
    }

    /// Returns the newest weights with the next version number. Waits for the device.
    pub fn publish(&mut self) -> Publication {
        let mut weights = vec![0.0_f32; self.parameters];
        self.trainer.actor_params(&mut weights);
        self.version.0 += 1;
        let run = RunPosition { updates: self.done, env_steps: self.env_steps() };
        Publication { version: self.version, weights: weights.into(), run }
    }

    /// Returns the progress since the last report. `None` if there was no update.
    pub fn report(&mut self) -> Option<TrainingProgress> {
        if self.window.updates == 0 {
            return None;
        }
        let stats = match self.tracker {
            Some(_) => self.window.stats,
            None => self.trainer.take_stats(),
        };
        let now = self.counts.now().time;
        let window =
            std::mem::replace(&mut self.window, Window { began: now, ..Window::default() });
        let seconds = now.saturating_sub(window.began).as_secs_f64().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "a window has few updates")]
        let count = window.updates as f64;
        self.losses = checkpoint::losses(&stats);
        self.watch_temperature(stats.alpha);
        Some(TrainingProgress {
            updates: self.done,
            version: self.version,
            stats,
            item_age_versions: window.age / count,
            weight_ess_ratio: window.ess / count,
            wait_ratio: window.waited.as_secs_f64() / seconds,
            updates_per_second: count / seconds,
            refused: self.refused,
        })
    }

    /// Warns when the temperature reaches its upper bound, because the policy then cannot reach the target entropy.
    fn watch_temperature(&mut self, alpha: f64) {
        let bound = self.training.alpha_max;
        let is_there = self.training.alpha_auto && alpha >= 0.999 * bound;
        if is_there && !std::mem::replace(&mut self.at_alpha_max, is_there) {
            warn!(
                alpha,
                "the temperature is at learner.alpha_max: no policy reaches the target entropy; lower \
                 learner.target_entropy_ratio (discrete actions) or learner.target_entropy_per_dim"
            );
        }
        self.at_alpha_max = is_there;
    }

    /// Applies changed settings between two updates. [`Updates::settle`] must be called first, so that the |td| of all
    /// updates has been read.
    ///
    /// # Errors
    /// Returns the reason if the settings cannot be applied. In this case, nothing is changed.
    pub fn change(&mut self, resolved: &Resolved) -> Result<(), String> {
        let config = TrainerConfig::new(&resolved.config, &self.spec);
        self.trainer.reconfigure(&config).map_err(|error| error.to_string())?;
        self.config = resolved.config.learner.clone();
        self.training = resolved.config.training.clone();
        self.steps = StepSchedules::new(&resolved.config);
        Ok(())
    }

    /// Returns the settings now in use.
    pub fn config(&self) -> &config::LearnerConfig {
        &self.config
    }

    /// Returns a checkpoint of the current state of learning. `others` are further random number generators that the
    /// checkpoint must store, by name. The noise generator is always stored.
    pub fn checkpoint(&self, others: &[(&str, &Pcg64)]) -> Checkpoint {
        let generators = others.iter().copied().chain([(NOISE, &self.noise)]);
        Checkpoint {
            state: self.trainer.state(),
            policy_version: self.version,
            counters: self.counts.counters(),
            generators: generators
                .map(|(name, rng)| (name.to_owned(), SavedRng::save(rng)))
                .collect(),
            losses: self.losses.clone(),
        }
    }
}

/// Finds the item that most likely made a refused update diverge.
fn suspect(batch: &ReadyBatch, td_abs: &[f32]) -> Suspect {
    let badness = |td: f32| if td.is_finite() { td } else { f32::INFINITY };
    let worst = (0..td_abs.len()).max_by(|&a, &b| {
        // Choose the first of several equal items. `max_by` alone would choose the last of them.
        badness(td_abs[a]).total_cmp(&badness(td_abs[b])).then(b.cmp(&a))
    });
    let index = worst.unwrap_or(0);
    let keys = batch.origins.iter().flat_map(|(shard, keys)| keys.iter().map(|key| (*shard, *key)));
    let actor = batch.actors.get(index).copied().map(ActorId);
    let rewards = batch.columns().reward;
    let steps = (rewards.len() / batch.size()).max(1);
    Suspect {
        index,
        origin: keys.into_iter().nth(index),
        actor: actor.filter(|actor| *actor != ActorId::UNKNOWN),
        reward: rewards.get(index * steps).copied().unwrap_or(f32::NAN),
        td_abs: td_abs.get(index).copied().unwrap_or(f32::NAN),
    }
}
