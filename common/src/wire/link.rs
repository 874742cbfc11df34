//! [`Link`]: a client's connection to one replay server. It sends greetings and notices when the server is silent.
//!
//! Actors and the learner use links. A link decides *when* to send Hello; the caller decides what to resend after
//! Welcome.

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

/// Minimum time between two greetings.
pub const HELLO_EVERY: Duration = Duration::from_millis(500);
/// Time without an answer after which a server counts as down. A server may hold a request back for longer than this.
/// While a client waits for such a request, it sends Hello, because the server answers Hello immediately.
pub const DOWN_AFTER: Duration = Duration::from_secs(3);

/// A connection to one replay server.
#[derive(Debug)]
pub struct Link {
    dealer: Dealer,
    endpoint: Endpoint,
    greeted: bool,
    hello_at: Option<Duration>,
    /// Time of the latest request that expects an answer.
    asked_at: Option<Duration>,
    /// Time of the first request after the latest answer. `None` if no answer is due.
    waiting_since: Option<Duration>,
    /// Time of the server's first refusal because another process holds the place of this client. A welcome resets it
    /// to `None`.
    in_use_since: Option<Duration>,
    log: LogLimit<()>,
}

/// Error: the server will never accept this client, or has refused it for too long.
#[derive(Debug, thiserror::Error)]
#[error("replay server {endpoint} refused this process: {refusal}")]
pub struct Rejected {
    /// The server.
    pub endpoint: Endpoint,
    /// The refusal of the server.
    pub refusal: Refusal,
}

impl Link {
    /// Creates a link over a dealer that is connecting to `endpoint`.
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

    /// Returns the address of the server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns whether the server has welcomed this client and has been silent for less than [`DOWN_AFTER`].
    pub fn is_up(&self, now: Duration) -> bool {
        self.greeted && self.silence(now) < DOWN_AFTER
    }

    /// Returns how long this client has waited for an answer of the server. Zero if no answer is due.
    pub fn silence(&self, now: Duration) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Sends Hello, unless the last one was sent less than [`HELLO_EVERY`] ago.
    pub fn greet(&mut self, hello: &Hello, now: Duration) {
        if self.hello_at.is_none_or(|at| now.saturating_sub(at) >= HELLO_EVERY) {
            self.hello_at = Some(now);
            self.ask(encode(&Request::Hello(hello.clone()), []), now);
        }
    }

    /// Returns whether no request was sent for [`CLIENT_HEARTBEAT`], so that Hello is due. Hello keeps our place at the
    /// server, and the answer shows that the server is alive.
    pub fn is_quiet(&self, now: Duration) -> bool {
        self.asked_at.is_none_or(|at| now.saturating_sub(at) >= CLIENT_HEARTBEAT)
    }

    /// Returns whether Hello must be sent again because the server has not welcomed this client.
    pub fn wants_greeting(&self) -> bool {
        !self.greeted
    }

    /// Sends a request that the server answers. Returns false if the transport's queue is full (the server is absent or
    /// slow).
    pub fn ask(&mut self, message: Message, now: Duration) -> bool {
        self.waiting_since.get_or_insert(now);
        self.asked_at = Some(now);
        self.tell(message)
    }

    /// Sends a message that needs no answer. Returns false in the same case as [`Link::ask`].
    pub fn tell(&self, message: Message) -> bool {
        self.dealer.outgoing.try_send(message).is_ok()
    }

    /// Receives the next message from the server. `None` when the transport has stopped.
    pub async fn recv(&mut self) -> Option<Message> {
        self.dealer.incoming.recv().await
    }

    /// Polls for the next message from the server, so that a caller can wait for several links at once.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.dealer.incoming.poll_recv(context)
    }

    /// Decodes a message that arrived at `now`, and updates the state of the link. Returns `Ok(None)` for a message
    /// that cannot be decoded.
    ///
    /// # Errors
    /// Returns an error if the refusal is final, or if another process has held the place for [`PLACE_PATIENCE`].
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
