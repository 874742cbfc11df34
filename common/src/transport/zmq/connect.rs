//! The connecting side: DEALER and SUB sockets, created anew whenever their connection breaks.

use super::super::backlog::Backlog;
use super::super::newest::newest_wins_queue;
use super::super::{Dealer, Endpoint, Message, Subscriber, TransportStats, within_limits};
use super::relay::{RelayedConnection, Route};
use crate::limits::{LINGER, PEER_BACKLOG_BYTES, SOCKET_QUEUE_MESSAGES};
use crate::runtime::backoff::Delays;
use crate::telemetry::log_limit::LogLimit;
use crate::tls::{Conversation, Tls};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use zeromq::{DealerRecvHalf, DealerSendHalf, DealerSocket, SubSocket};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv as _, SocketSend as _};
use zeromq::{ZmqError, ZmqMessage, ZmqResult};

/// Time limit of each step of the first attempt: the TCP connection, the TLS handshake and the ZMTP handshake.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Number of times that [`ATTEMPT`] doubles after failures, so that a distant or overloaded peer is reached, too. The
/// number is low because TCP retries at growing intervals: with a longer limit, a restored network would be noticed
/// late.
const ATTEMPT_DOUBLINGS: u32 = 2;
/// Lifetime after which a connection counts as stable. After a stable connection breaks, the waits between attempts
/// start again from the shortest.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// State of one endpoint's attempts to connect.
pub(super) struct Attempts {
    route: Route,
    delays: Delays,
    failures: u32,
    /// Logged reason of the last failure, so that the same reason is logged once.
    said: String,
    connected: Option<Instant>,
    began: Instant,
    log: LogLimit<()>,
}

impl Attempts {
    pub(super) fn new(
        to: Endpoint,
        delays: Delays,
        tls: Option<(Tls, Conversation)>,
        stats: Arc<TransportStats>,
    ) -> Self {
        Self {
            route: Route { to, tls, stats },
            delays,
            failures: 0,
            said: String::new(),
            connected: None,
            began: Instant::now(),
            log: LogLimit::default(),
        }
    }

    /// Repeats `attempt` until it succeeds. Logs a line when the attempts start to fail, when the reason changes, and
    /// when an attempt succeeds again.
    async fn dial<T>(
        &mut self,
        attempt: impl AsyncFn(&str, SocketOptions) -> ZmqResult<T>,
    ) -> (T, RelayedConnection) {
        loop {
            let patience = ATTEMPT * (1 << self.failures.min(ATTEMPT_DOUBLINGS));
            match self.try_once(patience, &attempt).await {
                Ok(connected) => {
                    let before = self.connected.replace(Instant::now());
                    if before.is_some() {
                        self.route.stats.reconnects.increment();
                    }
                    if (before.is_some() || self.failures > 0)
                        && self.log.admit((), "connected", self.began.elapsed()).is_some()
                    {
                        tracing::info!(endpoint = %self.route.to, "connected");
                    }
                    self.failures = 0;
                    self.said.clear();
                    return connected;
                }
                Err(error) => {
                    if error != self.said
                        && let Some(left_out) = self.log.admit((), "failed", self.began.elapsed())
                    {
                        tracing::warn!(endpoint = %self.route.to, error, left_out, "no connection yet, trying again");
                        self.said = error;
                    }
                    self.failures = self.failures.saturating_add(1);
                    self.pause().await;
                }
            }
        }
    }

    async fn try_once<T>(
        &self,
        patience: Duration,
        attempt: &impl AsyncFn(&str, SocketOptions) -> ZmqResult<T>,
    ) -> Result<(T, RelayedConnection), String> {
        let connection = self.route.open(patience).await.map_err(|refusal| refusal.to_string())?;
        let mut options = SocketOptions::default();
        options.connect_timeout(patience);
        match attempt(&connection.address, options).await {
            Ok(connected) => Ok((connected, connection)),
            // zeromq only sees that its connection has ended; the relay knows the reason.
            Err(error) => Err(connection.reason().await.unwrap_or_else(|| error.to_string())),
        }
    }

    async fn broken(&mut self, connection: RelayedConnection) {
        if self.connected.is_some_and(|since| since.elapsed() >= STEADY_AFTER) {
            self.delays.reset();
        }
        let reason = connection.reason().await;
        if let Some(left_out) = self.log.admit((), "lost", self.began.elapsed()) {
            tracing::warn!(endpoint = %self.route.to, reason, left_out, "connection lost, trying again");
        }
        self.pause().await;
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.delays.next().unwrap_or(ATTEMPT)).await;
    }
}

pub(super) fn dealer(attempts: Attempts) -> Dealer {
    let (outgoing, from_app) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    let (to_app, incoming) = mpsc::channel(SOCKET_QUEUE_MESSAGES);
    tokio::spawn(run_dealer(attempts, from_app, to_app));
    Dealer { outgoing, incoming }
}

pub(super) fn subscriber(attempts: Attempts) -> Subscriber {
    let (news, incoming) = newest_wins_queue(attempts.route.stats.clone());
    tokio::spawn(run_subscriber(attempts, news));
    Subscriber { incoming }
}

/// Returns a future that completes when the socket has lost its only peer. Call this before the socket connects.
fn lost_peer<S: Socket>(socket: &mut S) -> impl Future<Output = ()> + use<S> {
    let mut events = socket.monitor();
    async move {
        while let Ok(event) = events.recv().await {
            if matches!(event, SocketEvent::Disconnected(_)) {
                return;
            }
        }
    }
}

async fn run_dealer(
    mut attempts: Attempts,
    from_app: mpsc::Receiver<Message>,
    to_app: mpsc::Sender<Message>,
) {
    let stats = attempts.route.stats.clone();
    let mut outbox = Outbox { from_app, waiting: VecDeque::new(), stats: stats.clone() };
    let mut app_gone = pin!(to_app.closed());
    loop {
        let dialled = attempts.dial(async |address, options| {
            let mut socket = DealerSocket::with_options(options);
            let lost = lost_peer(&mut socket);
            socket.connect(address).await?;
            Ok((socket, lost))
        });
        let ((socket, lost), connection) = tokio::select! {
            connected = dialled => connected,
            () = &mut app_gone => return,
        };
        let (mut send_half, receive_half) = socket.split();
        let receiving = tokio::spawn(receive_replies(receive_half, to_app.clone(), stats.clone()));
        let receiving = AbortOnDropHandle::new(receiving);
        let backlog = Backlog::new(SOCKET_QUEUE_MESSAGES, PEER_BACKLOG_BYTES);
        tokio::select! {
            biased;
            () = &mut app_gone => {
                outbox.from_app.close();
                let sending = outbox.send_all(&mut send_half, &backlog);
                if tokio::time::timeout(LINGER, sending).await.is_err() {
                    tracing::debug!("closed with messages unsent");
                }
                return;
            }
            () = lost => {}
            _ended = receiving => {}
            Err(error) = outbox.send_all(&mut send_half, &backlog) => {
                tracing::debug!(%error, "could not send");
            }
        }
        attempts.broken(connection).await;
    }
}

async fn receive_replies(
    mut socket: DealerRecvHalf,
    to_app: mpsc::Sender<Message>,
    stats: Arc<TransportStats>,
) {
    while let Ok(message) = socket.recv().await {
        let message = into_message(message);
        if within_limits(&message, &stats) && to_app.send(message).await.is_err() {
            return;
        }
    }
}

fn into_message(message: ZmqMessage) -> Message {
    Message::new(message.into_vec())
}

/// Messages that wait to be sent. They are kept when a connection breaks.
struct Outbox {
    from_app: mpsc::Receiver<Message>,
    waiting: VecDeque<Message>,
    stats: Arc<TransportStats>,
}

impl Outbox {
    /// Hands messages to the socket until the application has closed its queue. If the future is dropped, messages that
    /// were not handed to the socket stay in the outbox.
    async fn send_all(
        &mut self,
        socket: &mut DealerSendHalf,
        backlog: &Backlog,
    ) -> Result<(), ZmqError> {
        let mut batch = Vec::new();
        loop {
            while let Some(message) = self.waiting.front() {
                let room = backlog.reserve(message).await;
                if let Some(message) = self.waiting.pop_front() {
                    socket.send(room.attach(message)).await?;
                }
            }
            if self.from_app.recv_many(&mut batch, SOCKET_QUEUE_MESSAGES).await == 0 {
                return Ok(());
            }
            let sendable = batch.drain(..).filter(|message| within_limits(message, &self.stats));
            self.waiting.extend(sendable);
        }
    }
}

async fn run_subscriber(mut attempts: Attempts, news: mpsc::Sender<Message>) {
    let stats = attempts.route.stats.clone();
    let mut app_gone = pin!(news.closed());
    loop {
        let dialled = attempts.dial(async |address, options| {
            let mut socket = SubSocket::with_options(options);
            let lost = lost_peer(&mut socket);
            socket.subscribe("").await?;
            socket.connect(address).await?;
            Ok((socket, lost))
        });
        let ((mut socket, lost), connection) = tokio::select! {
            connected = dialled => connected,
            () = &mut app_gone => return,
        };
        let mut lost = pin!(lost);
        loop {
            let received = tokio::select! {
                received = socket.recv() => received,
                () = &mut lost => break,
                () = &mut app_gone => return,
            };
            let Ok(message) = received else { break };
            let message = into_message(message);
            if within_limits(&message, &stats) && news.send(message).await.is_err() {
                return;
            }
        }
        drop(socket);
        attempts.broken(connection).await;
    }
}
