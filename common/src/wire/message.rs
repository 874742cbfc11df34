//! The closed enums of the protocol. Changing one changes `docs/protocol.md`, the golden bytes and the version.
//!
//! In each variant's doc, "frames" are the data frames that follow the header, all little-endian.

use super::handshake::Hello;
use super::refusal::Refusal;
use crate::ids::{BatchSequence, PolicyVersion};
use serde::{Deserialize, Serialize};

/// From an actor or a learner to a replay server. Shards are numbered within the server, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// First message of a conversation, and again after `Refused(NotGreeted)`. No frames. Answer: `Welcome` or `Refused`.
    Hello(Hello),
    /// From an actor: rows for one shard. Frames: rows `[rows, row_bytes]`; with `has_priorities` also |td| `[rows]` f32.
    /// Answer: `Inserted`, as soon as the rows are in the table; the rate limiter may hold it back.
    Insert {
        /// Target shard.
        shard: u16,
        /// 1, 2, 3 … per shard and incarnation. A repeated number is dropped, a gap is not accepted.
        sequence: BatchSequence,
        /// Rows in the frame.
        rows: u32,
        /// Whether the second frame is there.
        has_priorities: bool,
    },
    /// From the learner: requests `count` items of one shard. No frames. Answer: `Sampled` or `NotSampled`, within
    /// `timeout_ms`.
    Sample {
        /// Chosen by the client, repeated in the answer.
        request: u64,
        /// Target shard.
        shard: u16,
        /// Items wanted; 0 is allowed and only accounts the share.
        count: u32,
        /// Rows that the rate limiter accounts on this shard: the batch size over the number of shards drawn from.
        share: f64,
        /// How long the limiter may hold this back.
        timeout_ms: u32,
    },
    /// From the learner: new |td| for sampled items. Frames: keys `[count]` u64, |td| `[count]` f32. No answer; stale
    /// keys are counted.
    UpdatePriorities {
        /// Target shard.
        shard: u16,
        /// Items in the frames.
        count: u32,
    },
}

/// From a replay server, to the client that asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The handshake is complete. No frames.
    Welcome {
        /// One per shard of this server, in order.
        shards: Vec<ShardState>,
        /// Insert batches that the client may have unacknowledged per shard.
        window: u32,
    },
    /// The request was not carried out. No frames.
    Refused(Refusal),
    /// All batches of this client up to `sequence` are in the table (or were refused by row). No frames.
    Inserted {
        /// Shard that inserted.
        shard: u16,
        /// Highest sequence in the table; acknowledges all below it.
        sequence: BatchSequence,
        /// Rows of the latest batch that were refused (a value is not finite or out of bounds), counted by the server
        /// under the client's name.
        rows_refused: u32,
        /// Insert batches that the client may have unacknowledged on this shard from now on.
        credit: u32,
    },
    /// A sample. Frames: keys `[count]` u64, probabilities `[count]` f64 (p_i / mass at the moment of sampling), rows
    /// `[count, row_bytes]`, actors `[count]` u32 (who inserted the item, [`crate::ids::ActorId::UNKNOWN`] where the server
    /// does not know).
    Sampled {
        /// As in the request.
        request: u64,
        /// Shard that was sampled.
        shard: u16,
        /// Items in the frames, as asked.
        count: u32,
        /// The shard after the draw.
        state: ShardState,
    },
    /// The limiter held the sample back until its time was over. No frames.
    NotSampled {
        /// As in the request.
        request: u64,
        /// Shard that was asked.
        shard: u16,
        /// Inserts that were still missing.
        inserts_missing: u64,
        /// The shard now.
        state: ShardState,
    },
}

/// State of a shard that a client needs to sample exactly from several shards.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ShardState {
    /// Rows in the table.
    pub items: u64,
    /// Sum of all priorities.
    pub mass: f64,
    /// Rows inserted since the table was new.
    pub inserts: u64,
}

/// From the learner, to everybody who listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The newest weights. Frames: `[parameters]` f32 by `PolicyArch::tensor_layout`. Repeated every second, so that
    /// late joiners need not ask.
    Policy {
        /// Publications so far.
        version: PolicyVersion,
        /// `PolicyArch::hash`; a receiver with another architecture refuses the weights and says so.
        arch_hash: u64,
        /// `ClusterConfig::hash`.
        cluster_hash: u64,
        /// `digest64` of the weights frame.
        checksum: u64,
        /// Floats in the frame.
        parameters: u32,
        /// How far the run was.
        run: RunPosition,
    },
}

/// How far a run is, over all of its starts: the axes of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunPosition {
    /// Updates of the learner.
    pub updates: u64,
    /// Environment steps of all actors, as far as the learner knows.
    pub env_steps: u64,
}
