//! [`Hub`]: the registry in which the endpoints of one process find each other by name.

use super::super::{Message, PeerId, TransportStats};
use super::FaultPlan;
use crate::limits::PEER_BACKLOG_MESSAGES;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The endpoint that is bound to a name.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    Router { requests: mpsc::Sender<(PeerId, Message)>, peers: Arc<Peers> },
    Publisher { news: broadcast::Sender<Message> },
}

/// The queues to a router's peers. After `close` there are no queues: a peer that is added later gets a queue that has
/// already ended.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<PeerQueues>);

#[derive(Debug, Default)]
struct PeerQueues {
    by_peer: HashMap<PeerId, mpsc::Sender<Message>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Place {
    bound: Option<Bound>,
    cut: bool,
    /// Token that is cancelled when the links of this place break. Later links get a new token.
    links: CancellationToken,
}

/// Shared state of a [`MemoryTransport`](super::MemoryTransport).
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) plan: FaultPlan,
    pub(super) stats: Arc<TransportStats>,
    places: Mutex<HashMap<String, Place>>,
    /// Counts the successful calls of `bind` and all calls of `partition`. When the counter changes, tasks that wait
    /// for an endpoint look for it again.
    changes: watch::Sender<u64>,
    connections: AtomicU64,
}

/// A new link: the endpoint at the other end, the number of the connection, and the token that is cancelled when the
/// link breaks.
pub(super) struct Attached {
    pub(super) bound: Bound,
    pub(super) number: u64,
    pub(super) broken: CancellationToken,
}

impl Hub {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Self {
            plan,
            stats: Arc::default(),
            places: Mutex::default(),
            changes: watch::Sender::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// Binds an endpoint to a name. Returns false if the name is taken.
    pub(super) fn bind(&self, name: &str, bound: Bound) -> bool {
        let mut places = self.places();
        let place = places.entry(name.to_owned()).or_default();
        if place.bound.is_some() {
            return false;
        }
        place.bound = Some(bound);
        place.links = CancellationToken::new();
        self.announce_change();
        true
    }

    /// Frees a name. The endpoint accepts no more messages. Existing links continue until their queues are empty.
    pub(super) fn unbind(&self, name: &str) {
        let mut places = self.places();
        let Some(place) = places.get_mut(name) else { return };
        if let Some(Bound::Router { peers, .. }) = place.bound.take() {
            peers.close();
        }
        if !place.cut {
            places.remove(name);
        }
    }

    pub(super) fn partition(&self, name: &str, cut: bool) {
        let mut places = self.places();
        let place = places.entry(name.to_owned()).or_default();
        place.cut = cut;
        if cut {
            std::mem::take(&mut place.links).cancel();
        } else if place.bound.is_none() {
            places.remove(name);
        }
        self.announce_change();
    }

    /// Waits until an endpoint is bound to the name and is not cut off. Then creates a link to the endpoint.
    pub(super) async fn attach(&self, name: &str) -> Attached {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(attached) = self.try_attach(name) {
                return attached;
            }
            changes.changed().await.expect("the hub holds the sender");
        }
    }

    fn try_attach(&self, name: &str) -> Option<Attached> {
        let places = self.places();
        let place = places.get(name).filter(|place| !place.cut)?;
        let bound = place.bound.clone()?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Attached { bound, number, broken: place.links.clone() })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().expect("nobody panics while holding it")
    }

    fn announce_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Peers {
    /// Creates the queue of a new peer.
    pub(super) fn add(&self, number: u64) -> (PeerId, mpsc::Receiver<Message>) {
        let id = PeerId::new(Bytes::copy_from_slice(&number.to_be_bytes()), "memory", None);
        let (sender, receiver) = mpsc::channel(PEER_BACKLOG_MESSAGES);
        let mut queues = self.queues();
        if !queues.closed {
            queues.by_peer.insert(id.clone(), sender);
        }
        (id, receiver)
    }

    /// Ends all queues, including the queues of peers that are added later.
    fn close(&self) {
        let mut queues = self.queues();
        queues.by_peer.clear();
        queues.closed = true;
    }

    pub(super) fn remove(&self, id: &PeerId) {
        self.queues().by_peer.remove(id);
    }

    /// Queues a reply. If the queue is full or the peer is gone, drops the reply and counts it.
    pub(super) fn send(&self, id: &PeerId, message: Message, stats: &TransportStats) {
        match self.queues().by_peer.get(id).map(|queue| queue.try_send(message)) {
            Some(Ok(())) => {}
            Some(Err(mpsc::error::TrySendError::Full(_))) => stats.dropped_slow_peer.increment(),
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                stats.dropped_no_peer.increment();
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, PeerQueues> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_comes_while_its_router_goes_sees_its_queue_end() {
        let peers = Peers::default();
        let (_, mut before) = peers.add(1);
        peers.close();
        let (_, mut after) = peers.add(2);
        assert_eq!((before.recv().await, after.recv().await), (None, None));
    }
}
