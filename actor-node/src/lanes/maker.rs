//! [`Maker`]: creates the environments of lanes.

use crate::env::registry::Setup;
use crate::env::wrappers::Purpose;
use crate::env::{Env, EnvError, bridge};

/// Creates the environments of a group of lanes. Environments in another process share that process.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) name: String,
    setup: Setup,
    purpose: Purpose,
    /// Other process that runs the environments, if any.
    bridge: Option<bridge::Group>,
}

impl Maker {
    /// Creates a maker for `lanes` lanes of an environment.
    ///
    /// # Errors
    /// Returns an error if the process of the environments does not start.
    pub(crate) fn new(
        name: &str,
        setup: &Setup,
        purpose: Purpose,
        lanes: usize,
    ) -> Result<Self, EnvError> {
        let start = || bridge::Group::start(name, &setup.env_params(name), lanes);
        let bridge = bridge::is_bridged(name).then(start).transpose()?;
        Ok(Self { name: name.to_owned(), setup: setup.clone(), purpose, bridge })
    }

    /// Returns whether the environments run in another process.
    pub(crate) fn is_bridged(&self) -> bool {
        self.bridge.is_some()
    }

    /// Creates a new environment for a lane.
    ///
    /// # Errors
    /// Returns an error if the environment does not exist or does not start, or if a wrapper does not fit it.
    pub(crate) fn make(&self, lane: usize) -> Result<Box<dyn Env>, EnvError> {
        match &self.bridge {
            Some(group) => self.setup.around(group.lane(lane)?, self.purpose),
            None => self.setup.make(&self.name, self.purpose),
        }
    }
}
