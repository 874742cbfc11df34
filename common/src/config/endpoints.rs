//! Converts the section `[endpoints]` to addresses: those to which clients connect, and those at which servers listen.

use super::rule::{Rule, expect};
use super::{Config, ConfigError, Resolved};
use crate::transport::{Endpoint, EndpointError};

impl Resolved {
    /// Returns the replay servers' addresses, in order.
    ///
    /// # Errors
    /// Returns an error if an entry of `endpoints.replay` is not an address.
    pub fn replay_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let parsed = self.config.endpoints.replay.iter().map(|text| text.parse());
        let parsed: Result<_, EndpointError> = parsed.collect();
        parsed.map_err(|error| self.invalid("endpoints.replay", error.to_string()))
    }

    /// Returns the address at which the learner publishes weights.
    ///
    /// # Errors
    /// Returns an error if `endpoints.weights` is not an address.
    pub fn weights_endpoint(&self) -> Result<Endpoint, ConfigError> {
        let parsed = self.config.endpoints.weights.parse();
        parsed.map_err(|error: EndpointError| self.invalid("endpoints.weights", error.to_string()))
    }

    /// Returns the address at which a server listens, if its clients connect to `endpoint`. The port is that of
    /// `endpoint`. The host is `endpoints.bind` if this setting is not empty, else the host of `endpoint`. A Unix
    /// socket is returned unchanged.
    pub fn listens_at(&self, endpoint: &Endpoint) -> Endpoint {
        match (endpoint, host(&self.config.endpoints.bind)) {
            (Endpoint::Tcp { port, .. }, Some(host)) => Endpoint::Tcp { host, port: *port },
            _ => endpoint.clone(),
        }
    }
}

/// Parses a host. An IPv6 host must be in brackets, as in an address. Returns `None` if the text is not a host.
fn host(text: &str) -> Option<String> {
    match format!("tcp://{text}:0").parse() {
        Ok(Endpoint::Tcp { host, .. }) => Some(host),
        _ => None,
    }
}

pub(super) fn rules(c: &Config) -> Vec<Rule> {
    let bind = &c.endpoints.bind;
    vec![
        (
            !c.endpoints.replay.is_empty(),
            "endpoints.replay",
            expect("must name at least one server"),
        ),
        (
            bind.is_empty() || host(bind).is_some(),
            "endpoints.bind",
            expect(
                "must be empty or a host without a port, such as \"0.0.0.0\" or \"[::]\" (all interfaces)",
            ),
        ),
    ]
}
