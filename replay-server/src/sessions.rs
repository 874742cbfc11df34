//! [`Sessions`]: the place of each connection's client, and the number of each connection's protocol violations.
//!
//! A *place* is an identity that only one process may have at a time: the actor with a certain id, or the learner. A
//! process keeps its place as long as it sends messages. After [`CLIENT_SILENT`] of silence, the next process that asks
//! gets the place. If the former process sends a message later, it is refused as superseded.

use common::ids::{ActorId, Incarnation};
use common::limits::{ACTORS_MAX, CLIENT_SILENT};
use common::tls;
use common::transport::PeerId;
use common::wire::handshake::ClientRole;
use common::wire::refusal::Refusal;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// Number of wrong messages and refused greetings after which a connection is quarantined.
pub(crate) const OFFENCES_MAX: u32 = 8;
/// Duration of a quarantine.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(60);
/// Maximum number of remembered connections. If there are more, the connection that has been silent for longest is
/// forgotten and must greet again.
const SESSIONS_MAX: usize = 4_096;
/// Maximum number of former holders that are remembered per place. A remembered holder is refused as superseded.
const PAST_MAX: usize = 16;

/// All connections, and the holder of each place.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_peer: HashMap<PeerId, Session>,
    holders: HashMap<Place, Holder>,
}

#[derive(Debug, Default)]
struct Session {
    client: Option<Client>,
    offences: u32,
    /// Whether the quarantine was reported to the client. It is reported once; later messages get no answer.
    is_told: bool,
    heard: Duration,
}

#[derive(Debug)]
struct Holder {
    incarnation: Incarnation,
    heard: Duration,
    past: VecDeque<Incarnation>,
}

/// An identity that only one process may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Actor(ActorId),
    Learner,
}

impl Place {
    /// Returns the role that the certificate of this place's holder must name.
    pub(crate) fn certified(self) -> tls::Role {
        match self {
            Self::Actor(_) => tls::Role::ActorNode,
            Self::Learner => tls::Role::Learner,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actor(id) => write!(f, "actor {id}"),
            Self::Learner => f.write_str("the learner"),
        }
    }
}

/// A client that has greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) place: Place,
    pub(crate) incarnation: Incarnation,
}

impl From<&ClientRole> for Client {
    fn from(role: &ClientRole) -> Self {
        match *role {
            ClientRole::Actor { id, incarnation, .. } => {
                Self { place: Place::Actor(id), incarnation }
            }
            ClientRole::Learner { incarnation, .. } => Self { place: Place::Learner, incarnation },
        }
    }
}

/// Decision about a message before it is decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The message is decoded.
    Heard,
    /// The message is dropped, and the answer says that the connection is quarantined.
    Told,
    /// The message is dropped without an answer.
    Ignored,
}

impl Sessions {
    /// Returns the client of a connection, and records that the client was heard at `now`.
    ///
    /// # Errors
    /// Returns an error if the connection has not greeted, or if another process has the client's place now.
    pub(crate) fn client(&mut self, peer: &PeerId, now: Duration) -> Result<Client, Refusal> {
        let session = self.by_peer.get_mut(peer).ok_or(Refusal::NotGreeted)?;
        session.heard = now;
        let client = session.client.ok_or(Refusal::NotGreeted)?;
        let holder = self.holders.get_mut(&client.place).ok_or(Refusal::NotGreeted)?;
        if holder.incarnation != client.incarnation {
            return Err(Refusal::Superseded { who: client.place.to_string() });
        }
        holder.heard = now;
        Ok(client)
    }

    /// Handles a greeting whose settings fit. Gives the client its place if no other process has this place, or if the
    /// process that has it has been silent for [`CLIENT_SILENT`]. Returns true if the connection had not greeted as
    /// this client before.
    ///
    /// # Errors
    /// Returns an error if another process has the place, if the client had the place earlier, or if there are too many
    /// actor ids.
    pub(crate) fn greet(
        &mut self,
        peer: &PeerId,
        client: Client,
        now: Duration,
    ) -> Result<bool, Refusal> {
        let Client { place, incarnation } = client;
        if self.holders.len() > ACTORS_MAX && !self.holders.contains_key(&place) {
            let differences = vec![format!("more than {ACTORS_MAX} different values of actor.id")];
            return Err(Refusal::Settings { differences });
        }
        let holder = self.holders.entry(place).or_insert_with(|| Holder {
            incarnation,
            heard: now,
            past: VecDeque::new(),
        });
        if holder.past.contains(&incarnation) {
            return Err(Refusal::Superseded { who: place.to_string() });
        }
        if holder.incarnation != incarnation {
            let silent = now.saturating_sub(holder.heard);
            if silent < CLIENT_SILENT {
                let silent_ms = u64::try_from(silent.as_millis()).expect("below CLIENT_SILENT");
                return Err(Refusal::InUse { who: place.to_string(), silent_ms });
            }
            holder.past.push_back(holder.incarnation);
            holder.past.drain(..holder.past.len().saturating_sub(PAST_MAX));
            holder.incarnation = incarnation;
        }
        holder.heard = now;
        Ok(self.session(peer, now).client.replace(client) != Some(client))
    }

    /// Returns whether a message of this connection may be decoded.
    pub(crate) fn admit(&mut self, peer: &PeerId, now: Duration) -> Admission {
        let Some(session) = self.by_peer.get_mut(peer) else { return Admission::Heard };
        if !session.is_quarantined() {
            return Admission::Heard;
        }
        if now.saturating_sub(session.heard) >= QUARANTINE {
            self.by_peer.remove(peer);
            return Admission::Heard;
        }
        if std::mem::replace(&mut session.is_told, true) {
            Admission::Ignored
        } else {
            Admission::Told
        }
    }

    /// Counts a wrong message or a refused greeting. Returns whether the quarantine starts with it.
    pub(crate) fn offence(&mut self, peer: &PeerId, now: Duration) -> bool {
        let session = self.session(peer, now);
        session.offences += 1;
        session.offences == OFFENCES_MAX
    }

    /// Returns the number of connections in quarantine at `now`. Forgets the connections whose quarantine has ended.
    pub(crate) fn quarantined(&mut self, now: Duration) -> usize {
        self.by_peer.retain(|_, session| {
            !session.is_quarantined() || now.saturating_sub(session.heard) < QUARANTINE
        });
        self.by_peer.values().filter(|session| session.is_quarantined()).count()
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
    /// Returns whether the connection is in quarantine. During a quarantine, `heard` is the time of the connection's
    /// last offence, because later messages are not read.
    fn is_quarantined(&self) -> bool {
        self.offences >= OFFENCES_MAX
    }
}
