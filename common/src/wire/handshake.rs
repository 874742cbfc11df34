//! The greeting: the first message of a conversation, and the settings on which server and client must agree.

use super::PROTOCOL_VERSION;
use super::refusal::Refusal;
use crate::config::{ClusterConfig, Config};
use crate::ids::{ActorId, BatchSequence, Incarnation};
use crate::runtime::clock::Clock;
use crate::runtime::seed::SeedTree;
use crate::spec::ItemLayout;
use serde::{Deserialize, Serialize};

/// Maximum number of differences that a refusal lists; the others are counted.
const DIFFERENCES_MAX: usize = 16;
/// Maximum number of characters of a setting's value that a refusal shows.
const VALUE_CHARS_MAX: usize = 200;

/// Role of a client, with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientRole {
    /// Inserts rows.
    Actor {
        /// Number of the actor, unique in the run.
        id: ActorId,
        /// Random number, drawn anew at each start of the process.
        incarnation: Incarnation,
        /// For each shard of this server, in order: the lowest sequence number that is not acknowledged yet (1 at
        /// first). A server that does not know the incarnation expects this number first.
        oldest_unacknowledged: Vec<BatchSequence>,
        /// Maximum number of rows in one insert: `actor.insert_rows`.
        insert_rows: u32,
    },
    /// Samples rows and updates priorities.
    Learner {
        /// Random number, drawn anew at each start of the process.
        incarnation: Incarnation,
        /// Largest limiter share that a sample may have: `learner.batch_size`.
        batch_size: u32,
        /// Number of shards that the learner expects this server to have: `replay.shards`.
        shards: u32,
        /// Number of shards of the run: `replay.shards` times the entries of `endpoints.replay`.
        shards_total: u32,
    },
}

/// Returns a new incarnation, which differs from all other incarnations of this client, on every machine. `index`
/// distinguishes the clients of one process.
pub fn new_life(clock: &Clock, index: u32) -> Incarnation {
    let nanos = clock.unix_time().as_nanos() & u128::from(u64::MAX);
    let nanos = u64::try_from(nanos).expect("masked to 64 bits");
    Incarnation(SeedTree::new(nanos).index(index.into()).index(std::process::id().into()).seed())
}

impl ClientRole {
    /// Returns the role of an actor with these settings that has not inserted anything yet.
    pub fn actor(config: &Config, id: ActorId, incarnation: Incarnation) -> Self {
        let insert_rows = count(config.actor.insert_rows);
        Self::Actor { id, incarnation, oldest_unacknowledged: Vec::new(), insert_rows }
    }

    /// Returns the role of the learner with these settings.
    pub fn learner(config: &Config, incarnation: Incarnation) -> Self {
        Self::Learner {
            incarnation,
            batch_size: count(config.training.batch_size),
            shards: count(config.replay.shards),
            shards_total: count(config.shards_total()),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("settings are checked against limits far below 2^32")
}

/// The first message of a conversation. `protocol` is the first field in every version of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol: u16,
    /// Role of the sender.
    pub role: ClientRole,
    /// `ClusterConfig::hash` of the sender's settings.
    pub cluster_hash: u64,
    /// The `[cluster]` settings of the sender as text, so that a refusal can name the differences.
    pub cluster: Vec<(String, String)>,
    /// `ItemLayout::hash` of the sender.
    pub layout_hash: u64,
    /// Bytes of a row, for the text of a refusal.
    pub row_bytes: u64,
}

/// The requirements of a replay server on the settings of its clients.
#[derive(Debug, Clone)]
pub struct ServerTerms {
    /// Settings that must be equal on both sides, and their hash.
    cluster: (ClusterConfig, u64),
    /// Hash of the row layout, which must be equal on both sides.
    layout_hash: u64,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// `actor.insert_rows`: the rate limiter is built for inserts of at most this many rows.
    pub insert_rows: usize,
    /// `learner.batch_size`: the rate limiter is built for samples of at most this share.
    pub batch_size: usize,
    /// `replay.shards`.
    pub shards: usize,
    /// Number of shards of the run.
    pub shards_total: usize,
}

impl Hello {
    /// Creates the greeting of a process with these settings.
    pub fn new(role: ClientRole, cluster: &ClusterConfig, layout: &ItemLayout) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            role,
            cluster_hash: cluster.hash(),
            cluster: cluster.lines(),
            layout_hash: layout.hash(),
            row_bytes: layout.row_bytes as u64,
        }
    }

    /// Checks a client's greeting against the server's terms.
    ///
    /// # Errors
    /// Returns a refusal for the first kind of difference that is found, with the values of both sides.
    pub fn check(&self, terms: &ServerTerms) -> Result<(), Refusal> {
        if self.protocol != PROTOCOL_VERSION {
            return Err(Refusal::Protocol { server: PROTOCOL_VERSION, client: self.protocol });
        }
        let server_hash = terms.cluster.1;
        if self.cluster_hash != server_hash {
            let mut differences = differences(&terms.cluster.0.lines(), &self.cluster);
            if differences.is_empty() {
                let client = self.cluster_hash;
                differences.push(format!(
                    "the settings agree but cluster_hash is {server_hash:#x} on the server and {client:#x} on the client"
                ));
            }
            return Err(Refusal::Cluster { differences });
        }
        if self.layout_hash != terms.layout_hash {
            let server = terms.row_bytes as u64;
            return Err(Refusal::Layout { server, client: self.row_bytes });
        }
        let differences = terms.settings(&self.role);
        if differences.is_empty() { Ok(()) } else { Err(Refusal::Settings { differences }) }
    }
}

impl ServerTerms {
    /// Creates the terms of a server with these settings.
    pub fn new(config: &Config, layout: &ItemLayout) -> Self {
        Self {
            cluster: (config.cluster.clone(), config.cluster.hash()),
            layout_hash: layout.hash(),
            row_bytes: layout.row_bytes,
            insert_rows: config.actor.insert_rows,
            batch_size: config.training.batch_size,
            shards: config.replay.shards,
            shards_total: config.shards_total(),
        }
    }

    /// Returns one line for each setting in `role` that this server does not support.
    fn settings(&self, role: &ClientRole) -> Vec<String> {
        let both = |key: &str, server: usize, client: u32| {
            format!("{key} is {server} on the server and {client} on the client")
        };
        let rules = match *role {
            ClientRole::Actor { insert_rows, .. } => vec![(
                insert_rows as usize <= self.insert_rows,
                both("actor.insert_rows", self.insert_rows, insert_rows),
            )],
            ClientRole::Learner { batch_size, shards, shards_total, .. } => vec![
                (
                    batch_size as usize <= self.batch_size,
                    both("learner.batch_size", self.batch_size, batch_size),
                ),
                (shards as usize == self.shards, both("replay.shards", self.shards, shards)),
                (
                    shards_total as usize == self.shards_total,
                    both("shards over all of endpoints.replay", self.shards_total, shards_total),
                ),
            ],
        };
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, difference)| difference).collect()
    }
}

/// Returns one line per setting whose value differs, with both values. The settings that the client did not send are
/// counted, and one of them is named. Their values are not shown, so that a stranger cannot learn them.
fn differences(server: &[(String, String)], client: &[(String, String)]) -> Vec<String> {
    let theirs = |key: &str| client.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let mut lines: Vec<String> = server
        .iter()
        .filter_map(|(key, value)| Some((key, value, theirs(key)?)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(key, ours, theirs)| {
            let (ours, theirs) = (shown(ours), shown(theirs));
            format!("{key} is {ours} on the server and {theirs} on the client")
        })
        .collect();
    let missing: Vec<&String> =
        server.iter().map(|(key, _)| key).filter(|key| theirs(key).is_none()).collect();
    if let Some(first) = missing.first() {
        lines.push(format!("{} settings are not given, {first} for one", missing.len()));
    }
    let foreign = |key: &String| server.iter().all(|(known, _)| known != key);
    if let Some((key, _)) = client.iter().find(|(key, _)| foreign(key)) {
        lines.push(format!("{} is no setting of the server", shown(key)));
    }
    if lines.len() > DIFFERENCES_MAX {
        let more = lines.len() - DIFFERENCES_MAX;
        lines.truncate(DIFFERENCES_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Shortens and escapes a text of the server or the client, so that it fits on one line.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(VALUE_CHARS_MAX).flat_map(char::escape_debug).collect();
    let is_cut = text.chars().nth(VALUE_CHARS_MAX).is_some();
    // Restores the quotes that TOML puts around texts.
    let short = short.replace("\\\"", "\"").replace("\\'", "'");
    if is_cut { format!("{short}…") } else { short }
}
