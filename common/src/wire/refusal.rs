//! [`Refusal`]: the reason why a server did not carry out a request, and whether a retry can help.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Reason why a server did not carry out a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The versions of the protocol differ.
    Protocol {
        /// Version of the server.
        server: u16,
        /// Version of the client.
        client: u16,
    },
    /// `[cluster]` settings differ.
    Cluster {
        /// One line per setting.
        differences: Vec<String>,
    },
    /// The row layouts differ although the settings agree, because the programs were built from different sources.
    Layout {
        /// Row bytes of the server.
        server: u64,
        /// Row bytes of the client.
        client: u64,
    },
    /// The server does not know this client, for example because the server was restarted. The client must send Hello
    /// again and then repeat its requests.
    NotGreeted,
    /// This server has no shard of the requested number.
    UnknownShard {
        /// Number of the requested shard.
        shard: u16,
        /// Number of shards of this server.
        shards: u16,
    },
    /// The message does not follow the protocol.
    Malformed {
        /// Reason why it is invalid.
        what: String,
    },
    /// The client sent too many wrong messages and is ignored for a while.
    Quarantined,
    /// The server is stopping.
    ShuttingDown,
    /// Settings outside `[cluster]` that this server does not support.
    Settings {
        /// One line per setting.
        differences: Vec<String>,
    },
    /// The request belongs to another role.
    NotAllowed {
        /// Name of the request.
        request: String,
        /// The role that the client greeted as, or that its certificate names.
        role: String,
    },
    /// Another process, which is still alive, has greeted as the same client.
    InUse {
        /// The client's identity: "actor 3" or "the learner".
        who: String,
        /// Time since the last message of that process, in milliseconds.
        silent_ms: u64,
    },
    /// This process was silent, and another one has taken its place.
    Superseded {
        /// The client's identity: "actor 3" or "the learner".
        who: String,
    },
}

impl Refusal {
    /// Returns whether a retry can never help: the client should stop and show the refusal to its user.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Protocol { .. }
            | Self::Cluster { .. }
            | Self::Layout { .. }
            | Self::UnknownShard { .. }
            | Self::Quarantined
            | Self::Settings { .. }
            | Self::NotAllowed { .. }
            | Self::Superseded { .. } => true,
            Self::NotGreeted | Self::Malformed { .. } | Self::ShuttingDown | Self::InUse { .. } => {
                false
            }
        }
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
            Self::Quarantined => f.write_str("quarantined after too many wrong messages"),
            Self::ShuttingDown => f.write_str("the server is shutting down"),
            Self::Settings { differences } => {
                write!(f, "settings do not fit: {}", differences.join("; "))
            }
            Self::NotAllowed { request, role } => write!(f, "{request} is not for {role}"),
            Self::InUse { who, silent_ms } => write!(
                f,
                "another process is {who}; it was heard of {silent_ms} ms ago, and its place is free 5 s after its last word"
            ),
            Self::Superseded { who } => {
                write!(f, "another process is {who} now, because this one was silent")
            }
        }
    }
}
