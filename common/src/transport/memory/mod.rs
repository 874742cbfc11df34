//! The in-process twin of [`zmq`](super::zmq): the same contract, no sockets, and faults that follow from a seed.
//!
//! All clones of a [`MemoryTransport`] share one hub, where endpoints meet by name (`mem://name`). Every connection
//! draws delay, loss and duplication from its own two generators, one per direction, so that a run under
//! `tokio::time::pause` on one thread repeats itself exactly (therefore every `select!` here is biased).

mod hub;
mod link;

use super::{BoxFuture, Dealer, Endpoint, Publisher, Router, Subscriber, Transport};
use super::{TransportError, TransportStats};
use crate::runtime::seed::SeedTree;
use hub::Hub;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What the network does to each message of each direction.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// All draws follow from it.
    pub seeds: SeedTree,
    /// How long a message takes, drawn evenly. Order is kept: a message waits for the slower one before it.
    pub delay: RangeInclusive<Duration>,
    /// The share of messages that never arrive, from 0 to 1.
    pub loss: f64,
    /// The share of messages that arrive twice, one right behind the other, from 0 to 1.
    pub duplication: f64,
}

impl FaultPlan {
    /// A network without faults: nothing is delayed, lost or duplicated.
    pub fn none() -> Self {
        let delay = Duration::ZERO..=Duration::ZERO;
        Self { seeds: SeedTree::new(0), delay, loss: 0.0, duplication: 0.0 }
    }
}

/// A network inside this process. See the module, and the contract in [`transport`](super).
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    hub: Arc<Hub>,
}

impl MemoryTransport {
    /// A new network, without endpoints.
    pub fn new(plan: FaultPlan) -> Self {
        Self { hub: Arc::new(Hub::new(plan)) }
    }

    /// Cuts (or heals) all links to the endpoint of this name. Connections break: what is under way is lost. Peers go
    /// on trying, and are new peers to the router when it heals.
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
