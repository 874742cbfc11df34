//! [`EpisodeRunner`]: runs the episodes of evaluations, even if environments fail, are slow or never end an episode.
//!
//! An episode that fails is discarded and counted. The environment is rebuilt, and a new episode with an unused seed
//! replaces the failed one. A stop request ends the evaluation at the next step.

use super::observer::{ObservedStep, Observer};
use super::plan::{ActionMode, Episodes, Plan};
use super::summary::{EpisodeResult, Evaluation, summarise};
use crate::env::wrappers::Purpose;
use crate::env::{Env, EnvError};
use crate::lanes::{FAILURES_IN_A_ROW_MAX, Fault, Lane, Maker, Scaling};
use crate::log_once::LogOnce;
use common::policy::infer::PolicyNet;
use rand_pcg::Pcg64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::warn;

/// Reason why an evaluation has no result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The environment cannot be created, or the observer failed.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The process was asked to stop.
    #[error("stopped before it was complete")]
    Stopped,
    /// No episode was completed.
    #[error("{env}: {failures} episodes failed and none was completed, the last one: {reason}")]
    GivenUp {
        /// Name of the environment.
        env: String,
        /// Number of failed episodes.
        failures: u64,
        /// Reason of the last failure.
        reason: String,
    },
}

/// Progress of the current evaluation, which other threads may read.
#[derive(Debug, Default)]
pub struct Running {
    done: AtomicU64,
    /// Total number of episodes; 0 if no evaluation is running.
    total: AtomicU64,
}

impl Running {
    /// Returns the number of completed episodes and their total number; `None` if no evaluation is running.
    pub fn episodes(&self) -> Option<(u64, u64)> {
        let total = self.total.load(Ordering::Relaxed);
        (total > 0).then(|| (self.done.load(Ordering::Relaxed), total))
    }

    fn set(&self, done: usize, total: usize) {
        self.done.store(done as u64, Ordering::Relaxed);
        self.total.store(total as u64, Ordering::Relaxed);
    }
}

/// Runner for evaluations in one environment, one evaluation at a time.
#[derive(Debug)]
pub struct EpisodeRunner {
    plan: Plan,
    running: Arc<Running>,
    maker: Option<Maker>,
    /// `None` before the first episode, and after a failed one.
    lane: Option<Lane>,
    logged: LogOnce,
}

/// Reason why an episode stops early.
enum Broken {
    Fault(Fault, String),
    Observer(EnvError),
    Stopped,
}

impl From<(Fault, String)> for Broken {
    fn from((fault, reason): (Fault, String)) -> Self {
        Self::Fault(fault, reason)
    }
}

impl EpisodeRunner {
    /// Creates a runner. The environment is created later, when it is first needed.
    pub fn new(plan: Plan) -> Self {
        let logged = LogOnce::default();
        Self { plan, running: Arc::default(), maker: None, lane: None, logged }
    }

    /// Creates a runner for environments that `maker` creates. The registry need not know these environments. The name
    /// and the setup in `plan` are not used.
    pub fn with_maker(plan: Plan, maker: Maker) -> Self {
        let plan = Plan { env: maker.name().to_owned(), ..plan };
        Self { maker: Some(maker), ..Self::new(plan) }
    }

    /// Returns the progress of the current evaluation, which can be read at any time.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running)
    }

    /// Returns the environment, and creates it if necessary.
    ///
    /// # Errors
    /// Returns an error if the environment cannot be created.
    pub fn env(&mut self) -> Result<&mut dyn Env, EnvError> {
        Ok(self.lane()?.env.as_mut())
    }

    fn lane(&mut self) -> Result<&mut Lane, EnvError> {
        let Self { plan, maker, lane, .. } = self;
        if lane.is_none() {
            if maker.is_none() {
                *maker = Some(Maker::named(&plan.env, &plan.setup, Purpose::Evaluation, 1)?);
            }
            let maker = maker.as_ref().expect("made in the lines above");
            *lane = Some(Lane::new(maker.make(0)?, Purpose::Evaluation));
        }
        Ok(lane.as_mut().expect("made in the lines above"))
    }

    /// Runs the episodes while `observer` watches. A recurrent policy starts each episode with a state of zeros. If too
    /// many episodes fail, the result covers only the completed episodes.
    ///
    /// # Errors
    /// Returns an error if the environment cannot be created, the observer fails, no episode is completed, or the
    /// process is asked to stop.
    pub fn run(
        &mut self,
        episodes: Episodes<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, EvaluationError> {
        let running = self.running();
        running.set(0, episodes.count);
        let result = self.run_all(episodes, observer);
        running.set(0, 0);
        result
    }

    fn run_all(
        &mut self,
        Episodes { policy, version, count, seeds, acting }: Episodes<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, EvaluationError> {
        let failures_max = u64::from(FAILURES_IN_A_ROW_MAX) + count as u64;
        let (mut done, mut failures, mut last) = (Vec::<EpisodeResult>::new(), 0, String::new());
        let mut seed = 0;
        while done.len() < count && failures < failures_max {
            let seeds = seeds.index(seed);
            let draws = (acting == ActionMode::Sampled).then(|| seeds.role("actions").rng());
            match self.run_episode(policy, seeds.seed(), draws, observer) {
                Ok(episode) => {
                    self.warn_of(&episode);
                    done.push(episode);
                    self.running.set(done.len(), count);
                    seed = done.len() as u64;
                }
                Err(Broken::Stopped) => return Err(EvaluationError::Stopped),
                Err(Broken::Observer(error)) => return Err(error.into()),
                Err(Broken::Fault(fault, reason)) => {
                    observer.discarded();
                    if self.logged.is_new(&reason) {
                        let fault = fault.name();
                        warn!(fault, reason, "evaluation's episode discarded, environment rebuilt");
                    }
                    // Seed indices below `count` are reserved for the first attempts of the episodes.
                    seed = count as u64 + failures;
                    failures += 1;
                    self.lane = None;
                    last = reason;
                    if let Err(error) = self.lane() {
                        // The environment's process cannot be restarted. The maker is dropped, so that the next
                        // evaluation starts a new process.
                        if self.maker.as_ref().is_some_and(Maker::is_bridged) {
                            self.maker = None;
                        }
                        last = error.to_string();
                        break;
                    }
                }
            }
        }
        if done.is_empty() {
            let env = self.plan.env.clone();
            return Err(EvaluationError::GivenUp { env, failures, reason: last });
        }
        if done.len() < count {
            let (completed, episodes, reason) = (done.len(), count, last);
            warn!(completed, episodes, failures, reason, "an evaluation is over fewer episodes");
        }
        Ok(Evaluation { discarded: failures, ..summarise(version, done) })
    }

    /// Logs once that episodes are cut off.
    fn warn_of(&mut self, episode: &EpisodeResult) {
        if !episode.is_cut_off || !self.logged.is_new("cut off") {
            return;
        }
        let limit = self.lane.as_ref().and_then(|lane| lane.spec().episode_steps_max);
        let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let Plan { env, steps_max, .. } = &self.plan;
        warn!(
            env,
            limit, "evaluation cuts episodes off after evaluator.steps_max = {steps_max} steps"
        );
    }

    /// Runs one episode. If `draws` is given, actions are sampled with it; otherwise each action is the policy's mode.
    fn run_episode(
        &mut self,
        policy: &mut PolicyNet,
        seed: u64,
        mut draws: Option<Pcg64>,
        observer: &mut dyn Observer,
    ) -> Result<EpisodeResult, Broken> {
        let Plan { steps_max, stop, .. } = self.plan.clone();
        let lane = self.lane().map_err(Broken::Observer)?;
        let (spec, scaling) = (lane.spec(), Scaling::new(lane.spec()));
        let mut obs = vec![0.0; spec.obs_dim];
        let mut action = vec![0.0; spec.action_width()];
        let (mut env_action, mut state) = (action.clone(), vec![0.0; policy.state_dim()]);
        let mut noise = vec![0.0; policy.noise_width()];
        lane.reset(Some(seed), &mut obs)?;
        observer.started(lane.env.as_mut(), seed, &obs).map_err(Broken::Observer)?;
        loop {
            if stop.is_stopping() {
                return Err(Broken::Stopped);
            }
            if let Some(rng) = &mut draws {
                policy.draw_noise(rng, &mut noise);
                policy.sample(&obs, &mut state, &noise, &mut action);
            } else {
                policy.mode(&obs, &mut state, &mut action);
            }
            scaling.apply(&action, &mut env_action);
            let mut outcome = lane.step(&env_action, &mut obs)?;
            if !lane.episode_return.is_finite() {
                return Err(Broken::Fault(Fault::NotFinite, "the return is not finite".into()));
            }
            let is_over = outcome.terminated || outcome.truncated;
            let is_cut_off = !is_over && lane.length >= steps_max;
            outcome.truncated |= is_cut_off;
            let step =
                ObservedStep { action: &action, env_action: &env_action, outcome, obs: &obs };
            observer.stepped(lane.env.as_mut(), &step).map_err(Broken::Observer)?;
            if is_over || is_cut_off {
                let (terms, length) = (lane.terms(), lane.length);
                let episode_return = lane.episode_return;
                return Ok(EpisodeResult { episode_return, length, is_cut_off, terms });
            }
        }
    }
}
