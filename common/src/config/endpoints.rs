//! `[endpoints]` as addresses: where the processes meet, and where the servers among them listen.

use super::rule::{Rule, expect};
use super::{Config, ConfigError, Resolved};
use crate::transport::{Endpoint, EndpointError};

impl Resolved {
    /// The replay servers' addresses, in order.
    ///
    /// # Errors
    /// An entry of `endpoints.replay` is no address.
    pub fn replay_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let parsed = self.config.endpoints.replay.iter().map(|text| text.parse());
        let parsed: Result<_, EndpointError> = parsed.collect();
        parsed.map_err(|error| self.invalid("endpoints.replay", error.to_string()))
    }

    /// The learner's address for weights.
    ///
    /// # Errors
    /// `endpoints.weights` is no address.
    pub fn weights_endpoint(&self) -> Result<Endpoint, ConfigError> {
        let parsed = self.config.endpoints.weights.parse();
        parsed.map_err(|error: EndpointError| self.invalid("endpoints.weights", error.to_string()))
    }

    /// Where a server listens that others reach at `endpoint`: the same port, on the host of `endpoints.bind` where one is
    /// given. A Unix socket is where it is.
    pub fn listens_at(&self, endpoint: &Endpoint) -> Endpoint {
        match (endpoint, host(&self.config.endpoints.bind)) {
            (Endpoint::Tcp { port, .. }, Some(host)) => Endpoint::Tcp { host, port: *port },
            _ => endpoint.clone(),
        }
    }
}

/// The host in a text as it stands in an address: IPv6 in brackets. `None` where there is none.
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
