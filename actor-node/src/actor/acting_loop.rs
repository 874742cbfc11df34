//! [`Actor`]: the acting loop. One thread steps several lanes with the policy and passes the completed rows to the
//! spool.

use super::counters::Counters;
use super::settings::ActorSettings;
use super::turn_log::TurnLog;
use crate::env::EnvError;
use crate::lanes::{LaneGroup, Turn};
use crate::log_once::LogOnce;
use crate::metrics::ActorMetrics;
use crate::rows::{Assembler, LaneStep, Recorder};
use crate::upload::{RowBatch, Spool};
use crate::weights::PolicyCache;
use common::ids::PolicyVersion;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::SnapshotError;
use common::runtime::clock::Clock;
use common::runtime::shutdown::StopToken;
use common::spec::ActionKind;
use rand::RngExt;
use rand_pcg::Pcg64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::warn;

/// Interval at which a waiting actor checks for new weights and for a stop request.
const POLL: Duration = Duration::from_millis(2);

/// Reason why an actor ends early.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// The environment is unusable.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The weights are unusable, although the feed accepted them.
    #[error(transparent)]
    Weights(#[from] SnapshotError),
}

/// Owner of one group of lanes. In the shapes, L is the number of lanes, O the length of an observation, W the length
/// of an action, and S the length of the policy state.
#[derive(Debug)]
pub struct Actor {
    lanes: LaneGroup,
    turn: Turn,
    assemblers: Vec<Assembler>,
    net: PolicyNet,
    in_use: Option<PolicyVersion>,
    rows: Vec<u8>,
    rows_count: usize,
    /// Actions, shape (L, W).
    actions: Vec<f32>,
    /// Noise of the policy, shape (L, N), where N is the number of random numbers per action.
    noise: Vec<f32>,
    exploration_noise: Vec<f64>,
    /// Observations from which `actions` were chosen, shape (L, O).
    obs: Vec<f32>,
    /// Policy state before the next observation is processed, shape (L, S); zeros at the start of an episode.
    state: Vec<f32>,
    /// Policy state before `obs` was processed, shape (L, S).
    state_before: Vec<f32>,
    rng: Pcg64,
    settings: ActorSettings,
    recorder: Option<Recorder>,
    log: Option<TurnLog>,
    steps: u64,
    counters: Arc<Counters>,
    logged: LogOnce,
    metrics: ActorMetrics,
}

impl Actor {
    /// Creates an actor. The lanes must have been started, so that `turn.obs` holds their first observations.
    /// `assemblers` has one entry per lane.
    pub fn new(
        (lanes, turn): (LaneGroup, Turn),
        assemblers: Vec<Assembler>,
        net: PolicyNet,
        rng: Pcg64,
        settings: ActorSettings,
        metrics: ActorMetrics,
    ) -> Self {
        let count = assemblers.len();
        let state = vec![0.0; count * net.state_dim()];
        let counters = Counters::default();
        counters.env_steps.store(settings.share.done, Ordering::Relaxed);
        Self {
            obs: turn.obs.clone(),
            actions: vec![0.0; count * lanes.spec().action_width()],
            noise: vec![0.0; count * net.noise_width()],
            exploration_noise: Vec::new(),
            state_before: state.clone(),
            state,
            lanes,
            turn,
            assemblers,
            net,
            in_use: None,
            rows: Vec::new(),
            rows_count: 0,
            rng,
            recorder: None,
            log: None,
            steps: settings.share.done,
            settings,
            counters: Arc::new(counters),
            logged: LogOnce::default(),
            metrics,
        }
    }

    /// Makes the actor also write its rows to `recorder`, if there is one.
    #[must_use]
    pub fn recorded_by(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Makes the actor also write every turn to `log`.
    #[must_use]
    pub fn logged_by(mut self, log: TurnLog) -> Self {
        self.log = Some(log);
        self
    }

    /// Returns the counters that other threads may read while the actor runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Returns the number of environment steps so far, including the steps of earlier starts of the run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Acts with the newest weights of the cache until a stop is requested or the actor has taken its share of steps.
    /// Then closes the spool.
    ///
    /// # Errors
    /// Returns an error if the environment or the weights are unusable.
    pub fn run(
        mut self,
        cache: &PolicyCache,
        spool: &Spool,
        clock: &Clock,
        stop: &StopToken,
    ) -> Result<(), ActorError> {
        let result = self.act_until(cache, spool, clock, stop);
        while let Some(rest) = self.take_rows(true) {
            // Pushes the last rows if the spool has room for them, and drops them otherwise.
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
        let limit = self.settings.share.max;
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

    /// Takes the newest weights from the cache, if there are any. Returns `false` if the actor must wait. It must wait
    /// if the weights are too old, or if the warm-up is over and no weights have arrived yet.
    fn take_weights(&mut self, cache: &PolicyCache, now: Duration) -> Result<bool, ActorError> {
        let Some(cached) = cache.load() else { return Ok(self.is_warming_up()) };
        if self.in_use != Some(cached.snapshot.version) {
            self.use_weights(cached.snapshot.version, &cached.snapshot.weights)?;
            self.counters.set_run(cached.run);
        }
        self.metrics.lag_seconds.set(now.saturating_sub(cached.received_at).as_secs_f64());
        Ok(!cache.is_stale(now, self.settings.policy_age_max))
    }

    /// Uses these weights for all following actions.
    ///
    /// # Errors
    /// Returns an error if the weights do not fit the network.
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
        self.steps < self.settings.warmup_steps
    }

    /// Steps every lane once. Completed rows are collected for [`Actor::take_rows`].
    ///
    /// # Errors
    /// Returns an error if the environment is unusable.
    pub fn turn(&mut self) -> Result<(), EnvError> {
        self.decide();
        self.obs.copy_from_slice(&self.turn.obs);
        self.lanes.step(&self.actions, &mut self.turn)?;
        if let Some(log) = &mut self.log {
            log.append(self.in_use.unwrap_or_default(), &self.obs, &self.actions, &self.turn);
        }
        for (lane, fault, reason) in &self.turn.discarded {
            if self.logged.is_new(reason) {
                warn!(lane, fault = fault.name(), reason, "episode discarded, environment rebuilt");
            }
            self.metrics.discarded(fault.name());
            self.assemblers[*lane].discard();
        }
        for lane in 0..self.assemblers.len() {
            if self.turn.discarded.iter().all(|(discarded, ..)| *discarded != lane) {
                self.assemble(lane);
            }
        }
        self.forget_ended_states();
        for ended in &self.turn.ended {
            self.counters.ended(ended);
            self.metrics.episodes.inc();
        }
        if !self.turn.ended.is_empty() {
            let means = (self.counters.return_mean(), self.counters.length_mean());
            if let (Some(episode_return), Some(length)) = means {
                self.metrics.episode_return.set(episode_return);
                self.metrics.episode_length.set(length);
            }
        }
        let stepped = self.assemblers.len() as u64;
        self.steps += stepped;
        self.counters.env_steps.fetch_add(stepped, Ordering::Relaxed);
        self.metrics.steps.inc_by(stepped);
        Ok(())
    }

    /// Chooses the action of every lane and advances the policy state of every lane.
    fn decide(&mut self) {
        let is_warming_up = self.is_warming_up();
        self.state_before.copy_from_slice(&self.state);
        // A recurrent policy also runs during the warm-up, because its state must depend on all observations of the
        // episode. The actions that it chooses are then replaced by random ones.
        if !is_warming_up || (!self.state.is_empty() && self.in_use.is_some()) {
            self.net.draw_noise(&mut self.rng, &mut self.noise);
            self.net.sample(&self.turn.obs, &mut self.state, &self.noise, &mut self.actions);
        }
        let (spec, rng, actions) = (self.lanes.spec(), &mut self.rng, &mut self.actions);
        match (spec.actions, is_warming_up) {
            (ActionKind::Continuous, true) => {
                actions.iter_mut().for_each(|action| *action = rng.random_range(-1.0..1.0));
            }
            #[expect(clippy::cast_precision_loss, reason = "few choices")]
            (ActionKind::Discrete, true) => {
                actions
                    .iter_mut()
                    .for_each(|action| *action = rng.random_range(0..spec.act_dim) as f32);
            }
            (ActionKind::Continuous, false) => {
                self.settings.exploration.disturb(actions, &mut self.exploration_noise, rng);
            }
            (ActionKind::Discrete, false) => {}
        }
    }

    fn assemble(&mut self, lane: usize) {
        let (spec, state_dim) = (self.lanes.spec(), self.net.state_dim());
        let obs = lane * spec.obs_dim..(lane + 1) * spec.obs_dim;
        let width = spec.action_width();
        let state = lane * state_dim..(lane + 1) * state_dim;
        let step = LaneStep {
            obs: &self.obs[obs.clone()],
            action: &self.actions[lane * width..(lane + 1) * width],
            reward: self.turn.reward[lane],
            terminated: self.turn.terminated[lane],
            truncated: self.turn.truncated[lane],
            next_obs: &self.turn.next_obs[obs],
            state: &self.state_before[state.clone()],
            next_state: &self.state[state],
            version: self.in_use.unwrap_or_default(),
        };
        self.rows_count += self.assemblers[lane].push(&step, &mut self.rows);
    }

    /// Zeroes the policy state of lanes that start a new episode.
    fn forget_ended_states(&mut self) {
        let ended = self.turn.ended.iter().map(|ended| ended.lane);
        let state_dim = self.net.state_dim();
        for lane in ended.chain(self.turn.discarded.iter().map(|(lane, ..)| *lane)) {
            self.state[lane * state_dim..(lane + 1) * state_dim].fill(0.0);
        }
    }

    /// Removes the oldest collected rows and returns them as a batch of exactly `insert_rows` rows. If `flush` is
    /// `true`, as at the end of acting, the last batch may be smaller. Returns `None` if there are not enough rows.
    pub fn take_rows(&mut self, flush: bool) -> Option<RowBatch> {
        let full = self.settings.insert_rows;
        let count = if self.rows_count >= full { full } else { self.rows_count };
        if count == 0 || (count < full && !flush) {
            return None;
        }
        let bytes = count * (self.rows.len() / self.rows_count);
        let rows = self.rows.drain(..bytes).collect::<Vec<u8>>();
        self.rows_count -= count;
        if let Some(recorder) = &mut self.recorder {
            recorder.append(&rows);
        }
        Some(RowBatch { rows: rows.into(), count })
    }
}
