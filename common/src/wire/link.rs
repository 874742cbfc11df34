//! [`Link`]: a client's side of the conversation with one replay server: greeting, greeting again, and noticing silence.
//!
//! Used by actors and by the learner. It decides *when* to say Hello; what to send again after Welcome is theirs.

use super::handshake::Hello;
use super::message::{Reply, Request};
use super::refusal::Refusal;
use super::{decode, encode};
use crate::limits::{CLIENT_HEARTBEAT, PLACE_PATIENCE};
use crate::telemetry::log_limit::LogLimit;
use crate::transport::{Dealer, Endpoint, Message};
use bytes::Bytes;
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::{info, warn};

/// Time between two greetings that are not answered.
pub const HELLO_EVERY: Duration = Duration::from_millis(500);
/// Silence after which a server counts as down. A server that holds a request back for longer is greeted in between, so
/// that it has something to answer at once.
pub const DOWN_AFTER: Duration = Duration::from_secs(3);

/// A connection to one replay server.
#[derive(Debug)]
pub struct Link {
    dealer: Dealer,
    endpoint: Endpoint,
    greeted: bool,
    hello_at: Option<Duration>,
    /// When the latest question was asked.
    asked_at: Option<Duration>,
    /// Since when an answer is owed: the first question after the last answer.
    waiting_since: Option<Duration>,
    /// Since when another process is what this one wants to be.
    in_use_since: Option<Duration>,
    log: LogLimit<()>,
}

/// The server will never accept this client, or has not for so long that there is no point in asking on.
#[derive(Debug, thiserror::Error)]
#[error("replay server {endpoint} refused this process: {refusal}")]
pub struct Rejected {
    /// Which server.
    pub endpoint: Endpoint,
    /// Its words.
    pub refusal: Refusal,
}

impl Link {
    /// A link over a dealer that is connecting to `endpoint`.
    pub fn new(dealer: Dealer, endpoint: Endpoint) -> Self {
        Self {
            dealer,
            endpoint,
            greeted: false,
            hello_at: None,
            asked_at: None,
            waiting_since: None,
            in_use_since: None,
            log: LogLimit::default(),
        }
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the server has welcomed this client and owes no answer for longer than [`DOWN_AFTER`].
    pub fn is_up(&self, now: Duration) -> bool {
        self.greeted && self.silence(now) < DOWN_AFTER
    }

    /// How long the server has owed an answer; zero when it owes none.
    pub fn silence(&self, now: Duration) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Says Hello, unless it was said a moment ago.
    pub fn greet(&mut self, hello: &Hello, now: Duration) {
        if self.hello_at.is_none_or(|at| now.saturating_sub(at) >= HELLO_EVERY) {
            self.hello_at = Some(now);
            self.ask(encode(&Request::Hello(hello.clone()), []), now);
        }
    }

    /// Whether nothing was asked for [`CLIENT_HEARTBEAT`]. Hello is due then: the server keeps our place while it hears
    /// of us, and its answer says that it is there.
    pub fn is_quiet(&self, now: Duration) -> bool {
        self.asked_at.is_none_or(|at| now.saturating_sub(at) >= CLIENT_HEARTBEAT)
    }

    /// Whether Hello should be said again: it was never answered.
    pub fn wants_greeting(&self) -> bool {
        !self.greeted
    }

    /// Sends what the server answers; `false` if the transport's queue is full (the server is absent or slow).
    pub fn ask(&mut self, message: Message, now: Duration) -> bool {
        self.waiting_since.get_or_insert(now);
        self.asked_at = Some(now);
        self.tell(message)
    }

    /// Sends what needs no answer; `false` as for [`Link::ask`].
    pub fn tell(&self, message: Message) -> bool {
        self.dealer.outgoing.try_send(message).is_ok()
    }

    /// The next message from the server; `None` when the transport has stopped.
    pub async fn recv(&mut self) -> Option<Message> {
        self.dealer.incoming.recv().await
    }

    /// As [`Link::recv`], for waiting on several links.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.dealer.incoming.poll_recv(context)
    }

    /// Reads a message that came at `now` and keeps the link's state. `Ok(None)` for a message that needs nothing more.
    ///
    /// # Errors
    /// A refusal that asking again cannot change; a place that another process has kept for [`PLACE_PATIENCE`].
    pub fn read<'m>(
        &mut self,
        message: &'m Message,
        now: Duration,
    ) -> Result<Option<(Reply, &'m [Bytes])>, Rejected> {
        let (reply, data) = match decode::<Reply>(message) {
            Ok(read) => read,
            Err(error) => {
                if let Some(left_out) = self.log.admit((), "reply", now) {
                    warn!(server = %self.endpoint, %error, left_out, "reply dropped: not a message of this protocol");
                }
                return Ok(None);
            }
        };
        self.waiting_since = None;
        match &reply {
            Reply::Welcome { shards, .. } => {
                if !self.greeted {
                    info!(server = %self.endpoint, shards = shards.len(), "connected to replay server");
                }
                self.greeted = true;
                self.in_use_since = None;
            }
            Reply::Refused(refusal) => self.refused(refusal, now)?,
            _ => {}
        }
        Ok(Some((reply, data)))
    }

    fn refused(&mut self, refusal: &Refusal, now: Duration) -> Result<(), Rejected> {
        let is_lost = match refusal {
            Refusal::InUse { .. } => {
                self.greeted = false;
                now.saturating_sub(*self.in_use_since.get_or_insert(now)) >= PLACE_PATIENCE
            }
            Refusal::NotGreeted => {
                self.greeted = false;
                return Ok(());
            }
            refusal => refusal.is_final(),
        };
        if is_lost {
            return Err(Rejected { endpoint: self.endpoint.clone(), refusal: refusal.clone() });
        }
        if let Some(left_out) = self.log.admit((), "refused", now) {
            warn!(server = %self.endpoint, %refusal, left_out, "request refused");
        }
        Ok(())
    }
}
