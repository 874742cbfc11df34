//! The endpoints of the memory transport, and the links between them.

use super::super::newest::newest_wins_queue;
use super::super::{Dealer, Endpoint, Message, PeerId, Publisher, Router, Subscriber};
use super::super::{TransportError, TransportStats, within_limits};
use super::FaultPlan;
use super::hub::{Attached, Bound, Hub, Peers};
use crate::limits::{LINGER, SOCKET_QUEUE_MESSAGES};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

pub(super) fn router(
    hub: &Arc<Hub>,
    at: &Endpoint,
    name: String,
) -> Result<Router, TransportError> {
    let (requests, incoming) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let peers = Arc::new(Peers::default());
    if !hub.bind(&name, Bound::Router { requests: requests.clone(), peers: peers.clone() }) {
        return Err(TransportError::AddressInUse { endpoint: at.clone() });
    }
    tokio::spawn(send_replies(hub.clone(), name, from_app, requests, peers));
    Ok(Router { local: at.clone(), outgoing, incoming })
}

async fn send_replies(
    hub: Arc<Hub>,
    name: String,
    mut from_app: mpsc::Receiver<(PeerId, Message)>,
    requests: mpsc::Sender<(PeerId, Message)>,
    peers: Arc<Peers>,
) {
    loop {
        let reply = tokio::select! {
            biased;
            reply = from_app.recv() => reply,
            () = requests.closed(), if !from_app.is_closed() => {
                from_app.close();
                continue;
            }
        };
        let Some((id, message)) = reply else { break };
        if within_limits(&message, &hub.stats) {
            peers.send(&id, message, &hub.stats);
        }
    }
    requests.closed().await;
    hub.unbind(&name);
}

pub(super) fn publisher(
    hub: &Arc<Hub>,
    at: &Endpoint,
    name: String,
) -> Result<Publisher, TransportError> {
    let (outgoing, mut from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let news = broadcast::Sender::new(SOCKET_QUEUE_MESSAGES);
    if !hub.bind(&name, Bound::Publisher { news: news.clone() }) {
        return Err(TransportError::AddressInUse { endpoint: at.clone() });
    }
    let hub = hub.clone();
    tokio::spawn(async move {
        while let Some(message) = from_app.recv().await {
            if within_limits(&message, &hub.stats) {
                // Without subscribers the message is discarded, which is no error.
                news.send(message).ok();
            }
        }
        hub.unbind(&name);
    });
    Ok(Publisher { local: at.clone(), outgoing })
}

pub(super) fn dealer(hub: Arc<Hub>, name: String) -> Dealer {
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let (to_app, incoming) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    tokio::spawn(run_dealer(hub, name, from_app, to_app));
    Dealer { outgoing, incoming }
}

async fn run_dealer(
    hub: Arc<Hub>,
    name: String,
    mut from_app: mpsc::Receiver<Message>,
    to_app: mpsc::Sender<Message>,
) {
    let mut app_gone = pin!(to_app.closed());
    let mut again = false;
    loop {
        let Attached { bound, number, broken } = tokio::select! {
            biased;
            attached = hub.attach(&name) => attached,
            () = &mut app_gone => return,
        };
        let Bound::Router { requests, peers } = bound else {
            // With ZeroMQ the dealer would not connect either, because the handshake between these socket types always
            // fails.
            tracing::error!(%name, "a dealer cannot connect to a publisher");
            return to_app.closed().await;
        };
        if std::mem::replace(&mut again, true) {
            hub.stats.reconnects.increment();
        }
        let (id, mut replies) = peers.add(number);
        let mut up = Direction::new(&hub, number, "up");
        let mut down = Direction::new(&hub, number, "down");
        let request = Destination::Router(&requests, &id);
        let closing = tokio::select! {
            biased;
            () = broken.cancelled() => false,
            () = &mut app_gone => true,
            () = down.carry(Source::Queue(&mut replies), Destination::App(&to_app)) => false,
            () = async {
                up.carry(Source::Queue(&mut from_app), request).await;
                std::future::pending().await
            } => false,
        };
        if closing {
            from_app.close();
            let rest = up.carry(Source::Queue(&mut from_app), request);
            if tokio::time::timeout(LINGER, rest).await.is_err() {
                tracing::debug!(%name, "closed with messages unsent");
            }
        }
        peers.remove(&id);
        if closing {
            return;
        }
    }
}

pub(super) fn subscriber(hub: Arc<Hub>, name: String) -> Subscriber {
    let (to_app, incoming) = newest_wins_queue(hub.stats.clone());
    tokio::spawn(run_subscriber(hub, name, to_app));
    Subscriber { incoming }
}

async fn run_subscriber(hub: Arc<Hub>, name: String, to_app: mpsc::Sender<Message>) {
    let mut app_gone = pin!(to_app.closed());
    let mut again = false;
    loop {
        let Attached { bound, number, broken } = tokio::select! {
            biased;
            attached = hub.attach(&name) => attached,
            () = &mut app_gone => return,
        };
        let Bound::Publisher { news } = bound else {
            tracing::error!(%name, "a subscriber cannot connect to a router");
            return to_app.closed().await;
        };
        if std::mem::replace(&mut again, true) {
            hub.stats.reconnects.increment();
        }
        let mut subscription = news.subscribe();
        drop(news);
        let mut direction = Direction::new(&hub, number, "down");
        tokio::select! {
            biased;
            () = broken.cancelled() => {}
            () = &mut app_gone => return,
            () = direction.carry(Source::Published(&mut subscription), Destination::App(&to_app)) => {}
        }
    }
}

/// Source of the messages that travel in one direction.
enum Source<'a> {
    Queue(&'a mut mpsc::Receiver<Message>),
    Published(&'a mut broadcast::Receiver<Message>),
}

impl Source<'_> {
    /// Waits for the next message. Returns `None` if the source has ended. Dropping the future loses no message.
    async fn next(&mut self, stats: &TransportStats) -> Option<Message> {
        loop {
            let message = match self {
                Self::Queue(queue) => queue.recv().await?,
                Self::Published(news) => match news.recv().await {
                    Ok(message) => message,
                    Err(broadcast::error::RecvError::Closed) => return None,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        (0..missed).for_each(|_| stats.dropped_outdated.increment());
                        continue;
                    }
                },
            };
            if within_limits(&message, stats) {
                return Some(message);
            }
        }
    }
}

/// Destination of the messages that travel in one direction.
#[derive(Clone, Copy)]
enum Destination<'a> {
    App(&'a mpsc::Sender<Message>),
    Router(&'a mpsc::Sender<(PeerId, Message)>, &'a PeerId),
}

impl Destination<'_> {
    /// Delivers a message when it is due. Returns false if the receiver is gone.
    async fn deliver(self, due: Instant, message: Message) -> bool {
        // The timer has a resolution of a millisecond; a message without delay should not wait for it.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        match self {
            Self::App(app) => app.send(message).await.is_ok(),
            Self::Router(app, peer) => app.send((peer.clone(), message)).await.is_ok(),
        }
    }
}

/// One direction of a link: the messages in flight, each with the time at which it is due.
struct Direction {
    plan: FaultPlan,
    rng: Pcg64,
    stats: Arc<TransportStats>,
    under_way: VecDeque<(Instant, Message)>,
}

impl Direction {
    fn new(hub: &Hub, connection: u64, direction: &str) -> Self {
        let plan = hub.plan.clone();
        let rng = plan.seeds.index(connection).role(direction).rng();
        Self { plan, rng, stats: hub.stats.clone(), under_way: VecDeque::new() }
    }

    /// Carries messages until the source has ended or the receiver is gone. Dropping the future loses no message; the
    /// function can be called again.
    async fn carry(&mut self, mut source: Source<'_>, destination: Destination<'_>) {
        let mut more = true;
        while more || !self.under_way.is_empty() {
            let first = self.under_way.front().cloned();
            let has_room = self.under_way.len() < SOCKET_QUEUE_MESSAGES;
            tokio::select! {
                biased;
                Some(taken) = async {
                    let (due, message) = first?;
                    Some(destination.deliver(due, message).await)
                } => {
                    self.under_way.pop_front();
                    if !taken {
                        return;
                    }
                }
                message = source.next(&self.stats), if more && has_room => match message {
                    Some(message) => self.set_off(message),
                    None => more = false,
                },
            }
        }
    }

    /// Draws the delay, loss and duplication of a message, and adds the message to those in flight unless it is lost.
    /// Always makes three draws, so that a change of the loss rate does not change the delays.
    fn set_off(&mut self, message: Message) {
        let (shortest, longest) = (*self.plan.delay.start(), *self.plan.delay.end());
        let delay = shortest + longest.saturating_sub(shortest).mul_f64(self.rng.random::<f64>());
        let lost = self.rng.random::<f64>() < self.plan.loss;
        let doubled = self.rng.random::<f64>() < self.plan.duplication;
        if lost {
            self.stats.dropped_by_fault.increment();
            return;
        }
        let due = Instant::now() + delay;
        let due = self.under_way.back().map_or(due, |(before, _)| due.max(*before));
        if doubled {
            self.under_way.push_back((due, message.clone()));
        }
        self.under_way.push_back((due, message));
    }
}
