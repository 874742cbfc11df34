//! The sending side of news. Each subscriber has a slot that holds the newest message not yet sent to it.

use super::super::guard::{self, ConnectionState, GuardConfig, Peer, Service};
use super::super::listener::{Listener, ReadHalf, WriteHalf};
use super::super::within_limits;
use super::super::zmtp::connection::{Incoming, Outbox, Outgoing, Refusal, Socket, both};
use super::super::zmtp::decode::Item;
use super::super::zmtp::encode::Pieces;
use super::super::zmtp::rules::GateLimits;
use super::super::{Endpoint, Message, Publisher, TransportError, TransportStats};
use crate::limits::SOCKET_QUEUE_MESSAGES;
use crate::tls::{Conversation, Tls};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};

pub(super) async fn bind(
    at: &Endpoint,
    config: GuardConfig,
    tls: Option<&Tls>,
    stats: &Arc<TransportStats>,
) -> Result<Publisher, TransportError> {
    let (listener, local) = Listener::bind(at).await?;
    let (outgoing, mut from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let port = Arc::new(Port { stats: stats.clone(), subscribers: Mutex::default() });
    let stop = guard::spawn(listener, port.clone(), config, tls, stats);
    tokio::spawn(async move {
        while let Some(message) = from_app.recv().await {
            if within_limits(&message, &port.stats) {
                port.publish(&message);
            }
        }
        port.close();
        stop.cancel();
    });
    Ok(Publisher { local, outgoing })
}

/// A bound publisher.
#[derive(Debug)]
struct Port {
    stats: Arc<TransportStats>,
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    slots: Vec<Arc<Slot>>,
    closed: bool,
}

/// State of one subscriber: its prefixes, and the message that waits for it.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    prefixes: Vec<Bytes>,
    newest: Option<Message>,
    closed: bool,
}

impl Service for Port {
    const SOCKET: Socket =
        Socket { own: "PUB", peers: &["SUB", "XSUB"], limits: GateLimits::SUBSCRIPTIONS };
    const CONVERSATION: Conversation = Conversation::Weights;

    async fn serve(
        &self,
        _peer: Peer,
        mut incoming: Incoming<ReadHalf>,
        mut outgoing: Outgoing<WriteHalf>,
        connection: &ConnectionState,
    ) -> Result<(), Refusal> {
        let Some(registration) = self.enter() else { return Ok(()) };
        let receiving = async {
            while let Some(item) = incoming.next().await? {
                registration.slot.subscribe(item);
                if registration.slot.state().prefixes.is_empty() {
                    connection.is_useful();
                } else {
                    connection.stays_useful();
                }
            }
            Ok(())
        };
        let mut outbox = SubscriberOutbox { slot: registration.slot.clone() };
        both(receiving, outgoing.run(&mut outbox)).await
    }
}

impl Port {
    fn subscribers(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().expect("nobody panics while holding it")
    }

    /// Creates a slot for a new subscriber. Returns `None` if the port has closed.
    fn enter(&self) -> Option<Registration<'_>> {
        let mut subscribers = self.subscribers();
        if subscribers.closed {
            return None;
        }
        let slot = Arc::new(Slot::default());
        subscribers.slots.push(slot.clone());
        Some(Registration { port: self, slot })
    }

    fn publish(&self, message: &Message) {
        for slot in &self.subscribers().slots {
            if slot.put(message) {
                self.stats.dropped_outdated.increment();
            }
        }
    }

    fn close(&self) {
        let mut subscribers = self.subscribers();
        subscribers.closed = true;
        for slot in subscribers.slots.drain(..) {
            slot.state().closed = true;
            slot.changed.notify_one();
        }
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Stores a message if the subscriber has subscribed to it. Returns true if the message replaced an older one.
    fn put(&self, message: &Message) -> bool {
        let mut state = self.state();
        let header = &message.frames[0];
        if !state.prefixes.iter().any(|prefix| header.starts_with(prefix)) {
            return false;
        }
        self.changed.notify_one();
        state.newest.replace(message.clone()).is_some()
    }

    /// Applies a subscription or its cancellation. Other items from a subscriber are ignored.
    fn subscribe(&self, item: Item) {
        let mut state = self.state();
        let mut change = |wanted: bool, prefix: Bytes| {
            if wanted {
                state.prefixes.push(prefix);
            } else if let Some(at) = state.prefixes.iter().position(|known| *known == prefix) {
                state.prefixes.swap_remove(at);
            }
        };
        match item {
            Item::Subscribe(prefix) => change(true, prefix),
            Item::Cancel(prefix) => change(false, prefix),
            Item::Message(message) => match message.frames[0].first() {
                Some(1) => change(true, message.frames[0].slice(1..)),
                Some(0) => change(false, message.frames[0].slice(1..)),
                _ => {}
            },
            _ => {}
        }
    }
}

/// Guard that keeps a subscriber's slot at the port. The slot is removed on drop.
struct Registration<'p> {
    port: &'p Port,
    slot: Arc<Slot>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.port.subscribers().slots.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

/// The newest message for one subscriber.
#[derive(Debug)]
struct SubscriberOutbox {
    slot: Arc<Slot>,
}

impl Outbox for SubscriberOutbox {
    async fn fill(&mut self, pieces: &mut Pieces) -> bool {
        loop {
            let closed = {
                let mut state = self.slot.state();
                if let Some(message) = state.newest.take() {
                    pieces.message(message);
                    return true;
                }
                state.closed
            };
            if closed {
                return false;
            }
            self.slot.changed.notified().await;
        }
    }
}
