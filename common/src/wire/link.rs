//! [`Link`]: a client's side of the conversation with one replay server: greeting, greeting again, and noticing silence.
//!
//! Used by actors and by the learner. It decides *when* to say Hello; what to send again after Welcome is theirs.

use super::handshake::{Hello, Refusal};
use super::message::{Reply, Request};
use super::{decode, encode};
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
    /// Since when an answer is owed: the first question after the last answer.
    waiting_since: Option<Duration>,
}

/// The server will never accept this client.
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
        Self { dealer, endpoint, greeted: false, hello_at: None, waiting_since: None }
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

    /// Whether Hello should be said again: it was never answered.
    pub fn wants_greeting(&self) -> bool {
        !self.greeted
    }

    /// Sends what the server answers; `false` if the transport's queue is full (the server is absent or slow).
    pub fn ask(&mut self, message: Message, now: Duration) -> bool {
        self.waiting_since.get_or_insert(now);
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

    /// Reads a message and keeps the link's state. `Ok(None)` for a message that needs nothing more.
    ///
    /// # Errors
    /// A refusal that asking again cannot change.
    pub fn read<'m>(
        &mut self,
        message: &'m Message,
    ) -> Result<Option<(Reply, &'m [Bytes])>, Rejected> {
        let (reply, data) = match decode::<Reply>(message) {
            Ok(read) => read,
            Err(error) => {
                warn!(server = %self.endpoint, %error, "reply dropped: not a message of this protocol");
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
            }
            Reply::Refused(refusal) if refusal.is_final() => {
                return Err(Rejected { endpoint: self.endpoint.clone(), refusal: refusal.clone() });
            }
            Reply::Refused(Refusal::NotGreeted) => self.greeted = false,
            Reply::Refused(refusal) => warn!(server = %self.endpoint, %refusal, "request refused"),
            _ => {}
        }
        Ok(Some((reply, data)))
    }
}
