//! The in-process counterpart of [`zmq`](super::zmq). It keeps the same contract without sockets, and adds network
//! faults that are drawn from a seed.
//!
//! All clones of a [`MemoryTransport`] share one hub, in which endpoints find each other by name (`mem://name`). Every
//! connection draws delay, loss and duplication from two generators of its own, one per direction. Therefore a run
//! under `tokio::time::pause` on one thread repeats exactly; this is also why every `select!` here is biased.

mod hub;
mod link;

use super::{BoxFuture, Dealer, Endpoint, Publisher, Router, Subscriber, Transport};
use super::{TransportError, TransportStats};
use crate::runtime::seed::SeedTree;
use hub::Hub;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Faults that the network applies to each message in each direction.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Seeds of all draws.
    pub seeds: SeedTree,
    /// Range of the delay, drawn uniformly. The order is kept: a message waits for slower messages that were sent
    /// before it.
    pub delay: RangeInclusive<Duration>,
    /// Share of messages that are lost, from 0 to 1.
    pub loss: f64,
    /// Share of messages that are duplicated, from 0 to 1. The copy arrives directly after the original.
    pub duplication: f64,
}

impl FaultPlan {
    /// Returns a plan without faults: no message is delayed, lost or duplicated.
    pub fn none() -> Self {
        let delay = Duration::ZERO..=Duration::ZERO;
        Self { seeds: SeedTree::new(0), delay, loss: 0.0, duplication: 0.0 }
    }
}

/// A network inside this process. See the module documentation, and the contract in [`transport`](super).
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    hub: Arc<Hub>,
}

impl MemoryTransport {
    /// Creates a network without endpoints.
    pub fn new(plan: FaultPlan) -> Self {
        Self { hub: Arc::new(Hub::new(plan)) }
    }

    /// Breaks all links to the endpoint of this name if `cut` is true; allows links again if it is false. Messages in
    /// flight on a broken link are lost. Peers try to reconnect until links are allowed again. The router then treats
    /// them as new peers.
    pub fn partition(&self, name: &str, cut: bool) {
        self.hub.partition(name, cut);
    }
}

impl Transport for MemoryTransport {
    fn bind_router<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Router, TransportError>> {
        Box::pin(async { link::router(&self.hub, at, name(at)?) })
    }

    fn bind_publisher<'a>(
        &'a self,
        at: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Publisher, TransportError>> {
        Box::pin(async { link::publisher(&self.hub, at, name(at)?) })
    }

    fn connect_dealer(&self, to: &Endpoint) -> Result<Dealer, TransportError> {
        Ok(link::dealer(self.hub.clone(), name(to)?))
    }

    fn subscribe(&self, to: &Endpoint) -> Result<Subscriber, TransportError> {
        Ok(link::subscriber(self.hub.clone(), name(to)?))
    }

    fn stats(&self) -> &Arc<TransportStats> {
        &self.hub.stats
    }
}

fn name(endpoint: &Endpoint) -> Result<String, TransportError> {
    match endpoint {
        Endpoint::Mem(name) => Ok(name.clone()),
        _ => Err(TransportError::WrongTransport {
            endpoint: endpoint.clone(),
            expected: "mem://name",
        }),
    }
}
