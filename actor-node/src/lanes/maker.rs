//! [`Maker`]: creates the environments of lanes.

use crate::env::registry::Setup;
use crate::env::wrappers::Purpose;
use crate::env::{Env, EnvError, bridge};

type Make = dyn Fn(usize) -> Result<Box<dyn Env>, EnvError> + Send;

/// Creates the environments of a group of lanes. If these environments run in another process, all lanes share that
/// process.
pub struct Maker {
    name: String,
    is_bridged: bool,
    make: Box<Make>,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Maker({})", self.name)
    }
}

impl Maker {
    /// Creates a maker of environments that the registry does not know. `make` receives the number of the lane.
    pub fn of(
        name: &str,
        make: impl Fn(usize) -> Result<Box<dyn Env>, EnvError> + Send + 'static,
    ) -> Self {
        Self { name: name.to_owned(), is_bridged: false, make: Box::new(make) }
    }

    /// Creates a maker for `lanes` lanes of an environment of the registry.
    ///
    /// # Errors
    /// Returns an error if the process of the environments does not start.
    pub(crate) fn named(
        name: &str,
        setup: &Setup,
        purpose: Purpose,
        lanes: usize,
    ) -> Result<Self, EnvError> {
        let setup = setup.clone();
        if bridge::is_bridged(name) {
            let group = bridge::BridgeClient::start(name, &setup.env_params(name), lanes)?;
            let maker = Self::of(name, move |lane| setup.around(group.lane(lane)?, purpose));
            return Ok(Self { is_bridged: true, ..maker });
        }
        let env = name.to_owned();
        Ok(Self::of(name, move |_| setup.make(&env, purpose)))
    }

    /// Returns the name of the environment.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the environments run in another process.
    pub(crate) fn is_bridged(&self) -> bool {
        self.is_bridged
    }

    /// Creates a new environment for a lane.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist or does not start, or if a wrapper does not fit it.
    pub(crate) fn make(&self, lane: usize) -> Result<Box<dyn Env>, EnvError> {
        (self.make)(lane)
    }
}
