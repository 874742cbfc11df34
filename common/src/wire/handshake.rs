//! Who may talk to whom: the first message, and what a refusal says.

use super::PROTOCOL_VERSION;
use crate::config::Cluster;
use crate::ids::{ActorId, BatchSequence, Incarnation};
use crate::spec::ItemLayout;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Inserts.
    Actor {
        /// Unique in the run.
        id: ActorId,
        /// Drawn anew at each start.
        incarnation: Incarnation,
        /// Per shard of this server, in order: the lowest sequence that is not acknowledged yet (1 at first). A server
        /// that does not know the incarnation starts counting there.
        oldest_unacknowledged: Vec<BatchSequence>,
    },
    /// Samples and updates priorities.
    Learner,
}

/// The first message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u16,
    /// What the sender is.
    pub role: Role,
    /// `Cluster::hash` of the sender's settings.
    pub cluster_hash: u64,
    /// The same settings as text, so that a refusal can name the difference.
    pub cluster: Vec<(String, String)>,
    /// `ItemLayout::hash`.
    pub layout_hash: u64,
    /// Bytes of a row, for the refusal's text.
    pub row_bytes: u64,
}

impl Hello {
    /// The greeting of a process with these settings.
    pub fn new(role: Role, cluster: &Cluster, layout: &ItemLayout) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            role,
            cluster_hash: cluster.hash(),
            cluster: cluster.lines(),
            layout_hash: layout.hash(),
            row_bytes: layout.row_bytes as u64,
        }
    }

    /// Compares a client's greeting with the server's own settings.
    ///
    /// # Errors
    /// The first difference, with both sides' values.
    pub fn check(&self, cluster: &Cluster, layout: &ItemLayout) -> Result<(), Refusal> {
        if self.protocol != PROTOCOL_VERSION {
            return Err(Refusal::Protocol { server: PROTOCOL_VERSION, client: self.protocol });
        }
        if self.cluster_hash != cluster.hash() {
            return Err(Refusal::Cluster {
                differences: differences(&cluster.lines(), &self.cluster),
            });
        }
        if self.layout_hash != layout.hash() {
            let server = layout.row_bytes as u64;
            return Err(Refusal::Layout { server, client: self.row_bytes });
        }
        Ok(())
    }
}

fn differences(server: &[(String, String)], client: &[(String, String)]) -> Vec<String> {
    let theirs = |key: &str| client.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    server
        .iter()
        .filter(|(key, value)| theirs(key) != Some(value))
        .map(|(key, value)| {
            format!(
                "{key} is {value} on the server and {} on the client",
                theirs(key).unwrap_or("unset")
            )
        })
        .collect()
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The versions of the protocol differ.
    Protocol {
        /// The server's.
        server: u16,
        /// The client's.
        client: u16,
    },
    /// `[cluster]` settings differ.
    Cluster {
        /// One line per setting.
        differences: Vec<String>,
    },
    /// The rows differ although the settings agree: builds of different source.
    Layout {
        /// Row bytes of the server.
        server: u64,
        /// Row bytes of the client.
        client: u64,
    },
    /// The server does not know this client (it may have restarted): say hello again, then resend.
    NotGreeted,
    /// No such shard on this server.
    UnknownShard {
        /// As asked.
        shard: u16,
        /// How many there are.
        shards: u16,
    },
    /// The message does not follow the protocol.
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// The client sent too many malformed messages and is no longer listened to.
    Quarantined,
    /// The server is stopping.
    ShuttingDown,
}

impl Refusal {
    /// Whether asking again can never help: the client should stop and show this to its user.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Protocol { .. } | Self::Cluster { .. } | Self::Layout { .. } | Self::Quarantined
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { server, client } => {
                write!(
                    f,
                    "protocol version differs: {server} on the server and {client} on the client"
                )
            }
            Self::Cluster { differences } => {
                write!(f, "[cluster] settings differ: {}", differences.join("; "))
            }
            Self::Layout { server, client } => write!(
                f,
                "item layout differs: rows of {server} bytes on the server and {client} on the client, or other fields"
            ),
            Self::NotGreeted => f.write_str("the server does not know this client yet"),
            Self::UnknownShard { shard, shards } => {
                write!(f, "shard {shard} does not exist, the server has {shards}")
            }
            Self::Malformed { what } => write!(f, "malformed message: {what}"),
            Self::Quarantined => f.write_str("quarantined after too many malformed messages"),
            Self::ShuttingDown => f.write_str("the server is shutting down"),
        }
    }
}
