//! [`BridgeClient`]: lanes that share a server.

use super::protocol::{Answer, Blocks, Command, FAILED, TERMINATED, TRUNCATED};
use super::session::Session;
use super::{BridgeError, SessionConfig};
use crate::draw::Frame;
use crate::env::helpers::{check_action, check_index};
use crate::env::{Env, EnvError, EnvOrigin, EnvParams, EnvTerms, StepOutcome};
use crate::log_once::LogOnce;
use common::spec::{ActionKind, EnvSpec};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Client of one server. All lanes whose environments run in this server share the client.
#[derive(Debug)]
pub struct BridgeClient {
    shared: Arc<Mutex<Shared>>,
    spec: EnvSpec,
    origin: EnvOrigin,
}

impl BridgeClient {
    /// Starts the server of the environment `name`, or connects to it. The server will serve `lanes` lanes.
    ///
    /// # Errors
    /// Returns an error if Python, Gymnasium or the environment is missing, if a space of the environment is not
    /// supported, or if no server listens at the address.
    pub fn start(name: &str, params: &EnvParams, lanes: usize) -> Result<Self, EnvError> {
        let config = SessionConfig::new(name, params, lanes)?;
        let started = Session::start(&config, config.start_limit());
        let session = started.map_err(|error| config.error(&error))?;
        let (spec, blocks) = (session.spec().clone(), session.blocks());
        let origin = session.origin().clone();
        let shared = Shared {
            spec: spec.clone(),
            session: Some(session),
            life: 0,
            lost: EnvError::Failed(String::new()),
            request: vec![0; blocks.request_bytes],
            answers: vec![0; blocks.reply_bytes],
            reply: vec![0; blocks.reply_bytes],
            blocks,
            lanes: vec![Stage::Idle; lanes],
            logged: LogOnce::default(),
            config,
        };
        Ok(Self { shared: Arc::new(Mutex::new(shared)), spec, origin })
    }

    /// Returns a new environment for a lane. The server creates the environment when the lane is first reset.
    ///
    /// # Errors
    /// Returns an error if the server is gone and cannot be restarted.
    pub fn lane(&self, lane: usize) -> Result<Box<dyn Env>, EnvError> {
        let life = lock(&self.shared).revive()?;
        let shared = Arc::clone(&self.shared);
        let staged = vec![f32::NAN; self.spec.action_width()];
        let env_action = staged.clone();
        let (spec, origin) = (self.spec.clone(), self.origin.clone());
        Ok(Box::new(Lane { shared, spec, origin, lane, life, is_unused: true, staged, env_action }))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Progress of a lane in the current batch.
#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// No command.
    Idle,
    /// The command is in the request block but has not been sent.
    Asked,
    /// The reply has arrived but has not been read.
    Answered,
    /// A message about the lane's failure has arrived but has not been read.
    Failed(String),
}

#[derive(Debug)]
struct Shared {
    config: SessionConfig,
    spec: EnvSpec,
    /// `None` after one session has ended and before the next one starts.
    session: Option<Session>,
    /// Number of the latest session. Environments that were created in an earlier session are lost.
    life: u64,
    /// Reason why the last session ended.
    lost: EnvError,
    blocks: Blocks,
    request: Vec<u8>,
    /// The newest reply of each lane.
    answers: Vec<u8>,
    /// Buffer for the server's reply block. The entries of idle lanes are meaningless.
    reply: Vec<u8>,
    lanes: Vec<Stage>,
    logged: LogOnce,
}

impl Shared {
    /// Starts a new session if there is none. Returns the number of the current session.
    fn revive(&mut self) -> Result<u64, EnvError> {
        if self.session.is_none() {
            let started = Session::start(&self.config, self.config.start_limit());
            let session = started.map_err(|error| self.config.error(&error))?;
            if *session.spec() != self.spec {
                let what = "came back with other shapes".to_owned();
                return Err(self.config.error(&BridgeError::Protocol(what)));
            }
            self.life += 1;
            self.session = Some(session);
        }
        Ok(self.life)
    }

    fn is_lost(&self, life: u64) -> bool {
        self.session.is_none() || self.life != life
    }

    fn ask(&mut self, lane: usize, command: Command, seed: u32, action: &[f32]) {
        self.blocks.ask(&mut self.request, lane, command, seed, action);
        self.lanes[lane] = Stage::Asked;
    }

    /// Returns a lane's reply. Sends the batch first, if the lane's command is not sent yet.
    fn fetch(&mut self, lane: usize, obs: &mut [f32]) -> Result<Answer, EnvError> {
        if self.lanes[lane] == Stage::Asked {
            self.send()?;
        }
        match std::mem::replace(&mut self.lanes[lane], Stage::Idle) {
            Stage::Failed(reason) => Err(EnvError::Failed(reason)),
            Stage::Answered => Ok(self.blocks.answer(&self.answers, lane, obs)),
            Stage::Idle | Stage::Asked => unreachable!("sending answers whatever was asked"),
        }
    }

    fn send(&mut self) -> Result<(), EnvError> {
        let mut deadline = self.config.deadline;
        for (lane, stage) in self.lanes.iter().enumerate() {
            if *stage != Stage::Asked {
                self.request[lane] = Command::Idle as u8;
            } else if self.request[lane] != Command::Step as u8 {
                deadline = self.config.start_limit();
            }
        }
        let mut session = self.session.take().expect("lanes of lost lives do not ask");
        let failures = match session.exchange(&self.request, &mut self.reply, deadline) {
            Ok(failures) => failures,
            Err(error) => return Err(self.lose(session, error)),
        };
        self.session = Some(session);
        if self.lanes.iter().all(|stage| *stage == Stage::Asked) {
            std::mem::swap(&mut self.answers, &mut self.reply);
        } else {
            // Copies only the replies of this batch, because other lanes may still have unread replies of an earlier
            // batch. For example, one lane may be reset before the other lanes have read their replies.
            let asked = self.lanes.iter().enumerate().filter(|(_, stage)| **stage == Stage::Asked);
            asked.for_each(|(lane, _)| self.blocks.copy(&self.reply, &mut self.answers, lane));
        }
        for (stage, &outcome) in self.lanes.iter_mut().zip(&self.answers) {
            if *stage == Stage::Asked {
                let failed = || Stage::Failed(last_line(""));
                *stage = if outcome & FAILED == 0 { Stage::Answered } else { failed() };
            }
        }
        for (lane, text) in failures {
            self.log_once(lane, &text);
            if let Some(stage @ Stage::Failed(_)) = self.lanes.get_mut(lane) {
                *stage = Stage::Failed(last_line(&text));
            }
        }
        Ok(())
    }

    fn lose(&mut self, session: Session, error: BridgeError) -> EnvError {
        self.lanes.fill(Stage::Idle);
        self.lost = self.config.error(&session.lost(error));
        self.lost.clone()
    }

    /// Returns a picture of a lane's environment. The current batch is not affected.
    fn picture(&mut self, lane: usize) -> Result<Option<Frame>, EnvError> {
        let mut session = self.session.take().expect("lanes of lost lives are not looked at");
        if !session.has_pictures() {
            self.session = Some(session);
            return Ok(None);
        }
        match session.picture(lane, self.config.start_limit()) {
            Ok(picture) => {
                self.session = Some(session);
                picture.map(Some).map_err(|text| {
                    self.log_once(lane, &text);
                    EnvError::Failed(format!(
                        "{}: no picture: {}",
                        self.config.name,
                        last_line(&text)
                    ))
                })
            }
            Err(error) => Err(self.lose(session, error)),
        }
    }

    /// Returns the numbers that a lane's environment reports about its episode.
    fn terms(&mut self, lane: usize) -> Result<EnvTerms, EnvError> {
        let mut session = self.session.take().expect("lanes of lost lives are not asked");
        match session.terms(lane, self.config.deadline) {
            Ok(terms) => {
                self.session = Some(session);
                Ok(terms)
            }
            Err(error) => Err(self.lose(session, error)),
        }
    }

    fn log_once(&mut self, lane: usize, text: &str) {
        if self.logged.is_new(text) {
            let env = &self.config.name;
            tracing::warn!(env, lane, "the environment failed:\n{}", text.trim_end());
        }
    }
}

/// Returns the last non-empty line of a traceback, which is the error itself.
fn last_line(text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("the environment failed").trim().to_owned()
}

/// Environment of one lane.
#[derive(Debug)]
struct Lane {
    shared: Arc<Mutex<Shared>>,
    spec: EnvSpec,
    origin: EnvOrigin,
    lane: usize,
    life: u64,
    is_unused: bool,
    /// Latest announced action, shape (W). NaN before the first announcement, so that it equals no action.
    staged: Vec<f32>,
    /// Action clipped to the bounds, shape (W).
    env_action: Vec<f32>,
}

/// Writes `action` to `env_action`. Refuses NaN and invalid choices, and clips other values to the bounds, as
/// Gymnasium's own wrapper does.
fn clip(spec: &EnvSpec, action: &[f32], env_action: &mut [f32]) -> Result<(), EnvError> {
    if spec.actions == ActionKind::Discrete {
        check_index(action, spec.act_dim)?;
        env_action.copy_from_slice(action);
        return Ok(());
    }
    check_action(action)?;
    let bounds = spec.action_low.iter().zip(&spec.action_high);
    for ((clipped, value), (low, high)) in env_action.iter_mut().zip(action).zip(bounds) {
        *clipped = value.clamp(*low, *high);
    }
    Ok(())
}

impl Env for Lane {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Resets the environment with the upper 32 bits of the seed, because many environments accept only 32 bits.
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), EnvError> {
        let mut shared = lock(&self.shared);
        if shared.is_lost(self.life) {
            return Err(shared.lost.clone());
        }
        let command = match seed {
            _ if self.is_unused => Command::Make,
            Some(_) => Command::ResetSeeded,
            None => Command::Reset,
        };
        let seed = u32::try_from(seed.unwrap_or_default() >> 32).expect("32 bits are left");
        shared.ask(self.lane, command, seed, &[]);
        shared.fetch(self.lane, obs)?;
        self.is_unused = false;
        Ok(())
    }

    fn step(&mut self, action: &[f32], obs: &mut [f32]) -> Result<StepOutcome, EnvError> {
        let mut shared = lock(&self.shared);
        if shared.is_lost(self.life) {
            return Err(shared.lost.clone());
        }
        let stage = &shared.lanes[self.lane];
        if *stage == Stage::Idle || self.staged != action {
            if matches!(stage, Stage::Answered | Stage::Failed(_)) {
                let what = "steps with another action than was staged".to_owned();
                return Err(shared.config.error(&BridgeError::Protocol(what)));
            }
            clip(&self.spec, action, &mut self.env_action)?;
            shared.ask(self.lane, Command::Step, 0, &self.env_action);
        }
        let Answer { outcome, reward } = shared.fetch(self.lane, obs)?;
        Ok(StepOutcome {
            reward,
            terminated: outcome & TERMINATED != 0,
            truncated: outcome & TRUNCATED != 0,
        })
    }

    fn render(&mut self) -> Result<Option<Frame>, EnvError> {
        let mut shared = lock(&self.shared);
        if shared.is_lost(self.life) {
            return Err(shared.lost.clone());
        }
        shared.picture(self.lane)
    }

    fn origin(&self) -> EnvOrigin {
        self.origin.clone()
    }

    fn terms(&mut self) -> Result<EnvTerms, EnvError> {
        let mut shared = lock(&self.shared);
        if shared.is_lost(self.life) {
            return Err(shared.lost.clone());
        }
        shared.terms(self.lane)
    }

    fn stage(&mut self, action: &[f32]) {
        // Errors of the action or of the server are ignored here, because `step` returns them.
        if clip(&self.spec, action, &mut self.env_action).is_ok() {
            let mut shared = lock(&self.shared);
            if !shared.is_lost(self.life) {
                self.staged.copy_from_slice(action);
                shared.ask(self.lane, Command::Step, 0, &self.env_action);
            }
        }
    }
}
