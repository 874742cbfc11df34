//! What the network side knows of each connection: who it greeted as, and how often it broke the protocol.

use common::ids::{ActorId, Incarnation};
use common::transport::PeerId;
use common::wire::handshake::{Refusal, Role};
use std::collections::HashMap;
use std::time::Duration;

/// Malformed messages after which a connection is not listened to any more.
pub(crate) const MALFORMED_MAX: u32 = 8;
/// Connections remembered. Beyond it the one heard from least recently is forgotten: it is asked to greet again.
const SESSIONS_MAX: usize = 4_096;

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_peer: HashMap<PeerId, Session>,
}

#[derive(Debug, Default)]
struct Session {
    client: Option<Client>,
    malformed: u32,
    heard: Duration,
}

/// A greeted client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Actor(ActorId, Incarnation),
    Learner,
}

impl Sessions {
    /// The client behind a connection.
    ///
    /// # Errors
    /// It has not greeted, or it is quarantined.
    pub(crate) fn client(&mut self, peer: &PeerId, now: Duration) -> Result<Client, Refusal> {
        let session = self.by_peer.get_mut(peer).ok_or(Refusal::NotGreeted)?;
        session.heard = now;
        session.admit()?.ok_or(Refusal::NotGreeted)
    }

    /// A connection has greeted and was accepted; `true` the first time.
    pub(crate) fn greet(&mut self, peer: &PeerId, role: &Role, now: Duration) -> bool {
        let client = match role {
            Role::Actor { id, incarnation, .. } => Client::Actor(*id, *incarnation),
            Role::Learner => Client::Learner,
        };
        self.session(peer, now).client.replace(client) != Some(client)
    }

    /// Whether a connection may be listened to at all.
    ///
    /// # Errors
    /// It is quarantined.
    pub(crate) fn admit(&self, peer: &PeerId) -> Result<(), Refusal> {
        self.by_peer.get(peer).map_or(Ok(()), |session| session.admit().map(|_| ()))
    }

    /// Counts a malformed message; `true` when this one led to quarantine.
    pub(crate) fn malformed(&mut self, peer: &PeerId, now: Duration) -> bool {
        let session = self.session(peer, now);
        session.malformed += 1;
        session.malformed == MALFORMED_MAX
    }

    /// Connections that are quarantined now.
    pub(crate) fn quarantined(&self) -> usize {
        self.by_peer.values().filter(|session| session.admit().is_err()).count()
    }

    fn session(&mut self, peer: &PeerId, now: Duration) -> &mut Session {
        if self.by_peer.len() >= SESSIONS_MAX && !self.by_peer.contains_key(peer) {
            let quietest = self.by_peer.iter().min_by_key(|(_, session)| session.heard);
            let quietest = quietest.map(|(peer, _)| peer.clone()).expect("the table is full");
            self.by_peer.remove(&quietest);
        }
        let session = self.by_peer.entry(peer.clone()).or_default();
        session.heard = now;
        session
    }
}

impl Session {
    fn admit(&self) -> Result<Option<Client>, Refusal> {
        if self.malformed >= MALFORMED_MAX { Err(Refusal::Quarantined) } else { Ok(self.client) }
    }
}
