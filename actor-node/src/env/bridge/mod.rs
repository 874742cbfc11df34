//! Environments in other processes. Gymnasium's environments run in a Python worker; the user's own environments run in
//! a server at an address.
//!
//! A [`BridgeClient`] is the client of one server and speaks the protocol of `docs/env-protocol.md`. It gives each lane
//! an ordinary [`Env`](super::Env). Actions that [`stage`](super::Env::stage) has announced for several lanes are sent
//! to the server as one batch when the first of these lanes steps. If the environment of a lane raises an exception,
//! only that lane is rebuilt. If the server ends, hangs or breaks the protocol, all lanes lose their episodes, and the
//! server is restarted when the first lane is rebuilt.
//!
//! Parameters whose names contain a dot configure the bridge: [`PYTHON`], [`DEADLINE_MS`], [`CLOSE_MS`], [`PICTURES`]
//! and [`UNLIMITED`]. All other parameters are passed to the environment.

mod group;
mod link;
mod memory;
mod protocol;
mod server;
mod session;
mod spin;

use super::{EnvError, EnvParams};
use common::config::Config;
use server::Server;
use std::time::Duration;

pub use group::BridgeClient;

/// Parameter: Python interpreter that has Gymnasium installed.
pub const PYTHON: &str = "bridge.python";
/// Parameter: time limit of a step in milliseconds. The limit of starts, resets and pictures is twenty times as long,
/// and at least a minute.
pub const DEADLINE_MS: &str = "bridge.deadline_ms";
/// Parameter: time limit for closing the environments of a worker, in milliseconds. After this time, the worker is
/// killed.
pub const CLOSE_MS: &str = "bridge.close_ms";
/// Parameter: `true` to switch off the environment's own time limit, because a wrapper replaces it.
pub const UNLIMITED: &str = "bridge.unlimited";
/// Parameter: `true` if [`Env::render`](super::Env::render) will be called. It is not set otherwise, because drawing is
/// expensive.
pub const PICTURES: &str = "bridge.pictures";

/// Forms of bridged environment names, each with a short description.
pub const FORMS: [(&str, &str); 3] = [
    ("gym:ID", "any of Gymnasium's, or gym:MODULE:ID of your own, stepped by Python"),
    ("unix:PATH", "a server of your own, in any language, at a socket"),
    ("tcp:HOST:PORT", "the same over the network"),
];

/// Requirements of the [`FORMS`], one line each.
pub const NEEDS: [&str; 2] = [
    "gym: needs Python 3.10 or newer with `pip install 'gymnasium>=1.0'`; --python names it where it is not `python3`",
    "unix: and tcp: need a server that speaks docs/env-protocol.md, which has a small one in Python",
];

const PYTHON_DEFAULT: &str = "python3";
/// Default time limit of a step. The limit cannot be switched off, because no wait may be endless.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);
const CLOSE_DEFAULT: Duration = Duration::from_secs(10);
const START_LIMIT_MIN: Duration = Duration::from_secs(60);
const START_FACTOR: u32 = 20;

/// Returns the bridge parameters that follow from an actor's settings; none if the environment is not bridged.
pub fn settings(name: &str, config: &Config) -> EnvParams {
    let (actor, mut settings) = (&config.actor, EnvParams::new());
    if is_bridged(name) {
        settings.insert(PYTHON.into(), actor.python.clone());
        // A limit above the grace period has no effect, because the process ends after the grace period in any case.
        let close = actor.close_deadline.min(config.run.grace).as_millis().max(1);
        settings.insert(CLOSE_MS.into(), close.to_string());
        if !actor.step_deadline.is_zero() {
            let millis = actor.step_deadline.as_millis().max(1);
            settings.insert(DEADLINE_MS.into(), millis.to_string());
        }
    }
    settings
}

/// Returns the parameters that enable pictures; none if the environment is not bridged.
pub fn with_pictures(name: &str) -> EnvParams {
    let asked = is_bridged(name).then(|| (PICTURES.to_owned(), "true".to_owned()));
    asked.into_iter().collect()
}

/// Returns whether this is the name of an environment in another process.
pub fn is_bridged(name: &str) -> bool {
    Server::parse(name).is_some()
}

/// Reason why a server is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BridgeError {
    #[error(
        "cannot start {python} ({reason}): install Python 3.10 or newer with `pip install 'gymnasium>=1.0'`, \
         or name its interpreter with --python"
    )]
    Python { python: String, reason: String },
    #[error("nobody answers at {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {0:?}")]
    Hung(Duration),
    #[error("the server closed the connection")]
    Closed,
    #[error("the worker ended: {how}{}{last}", if last.is_empty() { "" } else { ": " })]
    Ended { how: String, last: String },
    #[error("connection lost: {0}")]
    Link(String),
    #[error("{0}")]
    Protocol(String),
    #[error("shared memory: {0}")]
    Memory(String),
}

/// Parameters for starting a server's session.
#[derive(Debug, Clone)]
struct SessionConfig {
    /// The name that the user has given.
    name: String,
    server: Server,
    lanes: usize,
    python: String,
    /// Parameters of the environment itself.
    params: EnvParams,
    deadline: Duration,
    close_limit: Duration,
    with_pictures: bool,
    unlimited: bool,
}

impl SessionConfig {
    fn new(name: &str, params: &EnvParams, lanes: usize) -> Result<Self, EnvError> {
        let Some(server) = Server::parse(name) else {
            let what = format!("{name}: expected gym:ID, unix:PATH or tcp:HOST:PORT");
            return Err(EnvError::Failed(what));
        };
        let refused = |key: &str, expected: &str| {
            EnvError::Failed(format!("{name}: parameter {key} = {}: {expected}", params[key]))
        };
        let mut config = Self {
            name: name.to_owned(),
            server,
            lanes,
            python: PYTHON_DEFAULT.to_owned(),
            params: EnvParams::new(),
            deadline: DEADLINE_DEFAULT,
            close_limit: CLOSE_DEFAULT,
            with_pictures: false,
            unlimited: false,
        };
        let millis = |key: &str, value: &str| {
            let millis = value.parse().ok().filter(|&millis: &u64| millis > 0);
            let millis = millis.ok_or_else(|| refused(key, "expected a whole number above 0"));
            Ok::<_, EnvError>(Duration::from_millis(millis?))
        };
        let flag = |key: &str, value: &str| {
            value.parse::<bool>().map_err(|_| refused(key, "expected true or false"))
        };
        for (key, value) in params {
            match key.as_str() {
                PYTHON => config.python.clone_from(value),
                DEADLINE_MS => config.deadline = millis(key, value)?,
                CLOSE_MS => config.close_limit = millis(key, value)?,
                PICTURES => config.with_pictures = flag(key, value)?,
                UNLIMITED => config.unlimited = flag(key, value)?,
                key if key.contains('.') => {
                    let known = [PYTHON, DEADLINE_MS, CLOSE_MS, PICTURES, UNLIMITED];
                    return Err(refused(key, &format!("expected one of {known:?}")));
                }
                key => {
                    config.params.insert(key.to_owned(), value.clone());
                }
            }
        }
        Ok(config)
    }

    /// Returns the time limit of starts, resets and pictures.
    fn start_limit(&self) -> Duration {
        self.deadline.saturating_mul(START_FACTOR).max(START_LIMIT_MIN)
    }

    fn error(&self, error: &BridgeError) -> EnvError {
        let text = format!("{}: {error}", self.name);
        if matches!(error, BridgeError::Hung(_)) {
            EnvError::Hung(text)
        } else {
            EnvError::Failed(text)
        }
    }
}
