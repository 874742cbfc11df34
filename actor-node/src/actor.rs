//! [`Actor`]: the loop. Observe, act, step, assemble, hand over; one thread, L lanes.

use crate::env::EnvError;
use crate::lanes::Turn;
use crate::metrics::ActorMetrics;
use crate::n_step::{NStep, Step};
use crate::policy_cache::PolicyCache;
use crate::spool::{RowBatch, Spool};
use crate::watched::LaneGroup;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::SnapshotError;
use common::runtime::clock::Clock;
use common::runtime::shutdown::StopToken;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::warn;

/// Training episodes that the reported mean return is over.
const RETURN_WINDOW: usize = 20;
/// How often a waiting actor looks for weights and for the stop.
const POLL: Duration = Duration::from_millis(2);

/// Why an actor ends early.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// The environment cannot be used.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The weights cannot be used, although the feed accepted them.
    #[error(transparent)]
    Weights(#[from] SnapshotError),
}

/// What others may read while the actor runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// Environment steps.
    pub env_steps: AtomicU64,
    /// Episodes that ended.
    pub episodes: AtomicU64,
    /// Version of the weights in use.
    pub version: AtomicU64,
    returns: Mutex<VecDeque<f64>>,
}

impl Counters {
    /// Mean return of the latest training episodes; `None` before the first.
    #[expect(clippy::cast_precision_loss, reason = "few episodes")]
    pub fn return_mean(&self) -> Option<f64> {
        let returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
        (!returns.is_empty()).then(|| returns.iter().sum::<f64>() / returns.len() as f64)
    }

    fn ended(&self, episode_return: f64) {
        self.episodes.fetch_add(1, Ordering::Relaxed);
        let mut returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
        returns.push_back(episode_return);
        if returns.len() > RETURN_WINDOW {
            returns.pop_front();
        }
    }
}

/// Cadences of an actor.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Steps with uniformly random actions at the start.
    pub warmup_steps: u64,
    /// Rows per insert batch.
    pub insert_rows: usize,
    /// Weights older than this stop the actor; zero for never.
    pub policy_age_max: Duration,
    /// Steps after which it has done its part; 0 for no limit.
    pub env_steps_max: u64,
}

/// The owner of one group of lanes.
#[derive(Debug)]
pub struct Actor {
    lanes: LaneGroup,
    turn: Turn,
    windows: Vec<NStep>,
    net: PolicyNet,
    in_use: Option<PolicyVersion>,
    rows: Vec<u8>,
    rows_count: usize,
    actions: Vec<f32>,
    noise: Vec<f32>,
    obs: Vec<f32>,
    rng: Pcg64,
    habits: Habits,
    steps: u64,
    counters: Arc<Counters>,
    metrics: ActorMetrics,
}

impl Actor {
    /// An actor over lanes that have just been started (`turn.obs` holds their first observations).
    pub fn new(
        (lanes, turn): (LaneGroup, Turn),
        windows: Vec<NStep>,
        net: PolicyNet,
        rng: Pcg64,
        habits: Habits,
        metrics: ActorMetrics,
    ) -> Self {
        let numbers = windows.len() * lanes.spec().act_dim;
        Self {
            obs: turn.obs.clone(),
            lanes,
            turn,
            windows,
            net,
            in_use: None,
            rows: Vec::new(),
            rows_count: 0,
            actions: vec![0.0; numbers],
            noise: vec![0.0; numbers],
            rng,
            habits,
            steps: 0,
            counters: Arc::default(),
            metrics,
        }
    }

    /// What others may read while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Environment steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Acts until the stop or its share of steps, with the newest weights of the cache, and closes the spool.
    ///
    /// # Errors
    /// The environment cannot be used any more.
    pub fn run(
        mut self,
        cache: &PolicyCache,
        spool: &Spool,
        clock: &Clock,
        stop: &StopToken,
    ) -> Result<(), ActorError> {
        let result = self.act_until(cache, spool, clock, stop);
        while let Some(rest) = self.take_rows(true) {
            // The last rows are worth a try, not a wait.
            spool.push(rest, || true);
        }
        spool.close();
        result
    }

    fn act_until(
        &mut self,
        cache: &PolicyCache,
        spool: &Spool,
        clock: &Clock,
        stop: &StopToken,
    ) -> Result<(), ActorError> {
        let limit = self.habits.env_steps_max;
        while !stop.is_stopping() && (limit == 0 || self.steps < limit) {
            let began = clock.now();
            if !self.take_weights(cache, began)? {
                std::thread::sleep(POLL);
                continue;
            }
            self.turn()?;
            let ended = clock.now();
            self.metrics.turn.observe(ended.saturating_sub(began).as_secs_f64());
            while let Some(batch) = self.take_rows(false) {
                #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                self.metrics.spool_rows.set(spool.rows() as f64);
                if !spool.push(batch, || stop.is_stopping()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes newer weights; `false` while there are none to act with (after the warm-up), or they are too old.
    fn take_weights(&mut self, cache: &PolicyCache, now: Duration) -> Result<bool, ActorError> {
        let Some(cached) = cache.load() else { return Ok(self.is_warming_up()) };
        if self.in_use != Some(cached.snapshot.version) {
            self.use_weights(cached.snapshot.version, &cached.snapshot.weights)?;
        }
        self.metrics.lag_seconds.set(now.saturating_sub(cached.received_at).as_secs_f64());
        Ok(!cache.is_stale(now, self.habits.policy_age_max))
    }

    /// Acts with these weights from now on.
    ///
    /// # Errors
    /// They do not fit.
    pub fn use_weights(
        &mut self,
        version: PolicyVersion,
        weights: &[f32],
    ) -> Result<(), SnapshotError> {
        self.net.set_weights(weights)?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let behind = self.in_use.map_or(0, |old| version.0.saturating_sub(old.0)) as f64;
        self.metrics.lag_versions.set(behind);
        self.in_use = Some(version);
        self.counters.version.store(version.0, Ordering::Relaxed);
        Ok(())
    }

    fn is_warming_up(&self) -> bool {
        self.steps < self.habits.warmup_steps
    }

    /// One step of every lane; completed rows collect until [`Actor::take_rows`].
    ///
    /// # Errors
    /// The environment cannot be used any more.
    pub fn turn(&mut self) -> Result<(), EnvError> {
        if self.is_warming_up() {
            self.actions.iter_mut().for_each(|action| *action = self.rng.random_range(-1.0..1.0));
        } else {
            self.noise.iter_mut().for_each(|noise| *noise = StandardNormal.sample(&mut self.rng));
            self.net.sample(&self.turn.obs, &self.noise, &mut self.actions);
        }
        self.obs.copy_from_slice(&self.turn.obs);
        self.lanes.step(&self.actions, &mut self.turn)?;
        for (lane, fault, reason) in &self.turn.discarded {
            warn!(lane, fault = fault.name(), reason, "episode discarded, environment rebuilt");
            self.metrics.discarded(fault.name());
            self.windows[*lane].discard();
        }
        for lane in 0..self.windows.len() {
            if self.turn.discarded.iter().all(|(discarded, ..)| *discarded != lane) {
                self.assemble(lane);
            }
        }
        for ended in &self.turn.ended {
            self.counters.ended(ended.episode_return);
            self.metrics.episodes.inc();
        }
        if let (false, Some(mean)) = (self.turn.ended.is_empty(), self.counters.return_mean()) {
            self.metrics.episode_return.set(mean);
        }
        let stepped = self.windows.len() as u64;
        self.steps += stepped;
        self.counters.env_steps.fetch_add(stepped, Ordering::Relaxed);
        self.metrics.steps.inc_by(stepped);
        Ok(())
    }

    fn assemble(&mut self, lane: usize) {
        let spec = self.lanes.spec();
        let obs = lane * spec.obs_dim..(lane + 1) * spec.obs_dim;
        let step = Step {
            obs: &self.obs[obs.clone()],
            action: &self.actions[lane * spec.act_dim..(lane + 1) * spec.act_dim],
            reward: self.turn.reward[lane],
            terminated: self.turn.terminated[lane],
            truncated: self.turn.truncated[lane],
            next_obs: &self.turn.next_obs[obs],
            version: self.in_use.unwrap_or_default(),
        };
        self.rows_count += self.windows[lane].push(&step, &mut self.rows);
    }

    /// The oldest rows collected so far, as a batch of exactly `insert_rows`; at the end (`flush`) also a smaller one.
    pub fn take_rows(&mut self, flush: bool) -> Option<RowBatch> {
        let full = self.habits.insert_rows;
        let count = if self.rows_count >= full { full } else { self.rows_count };
        if count == 0 || (count < full && !flush) {
            return None;
        }
        let bytes = count * (self.rows.len() / self.rows_count);
        let rows = self.rows.drain(..bytes).collect::<Vec<u8>>();
        self.rows_count -= count;
        Some(RowBatch { rows: rows.into(), count })
    }
}
