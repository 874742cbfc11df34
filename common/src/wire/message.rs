//! The closed enums of the protocol. A change of an enum requires a change of `docs/protocol.md`, the golden bytes and
//! the version.
//!
//! In the comment of a variant, "frames" are the data frames that follow the header, all little-endian.

use super::handshake::Hello;
use super::refusal::Refusal;
use crate::ids::{BatchSequence, PolicyVersion};
use serde::{Deserialize, Serialize};

/// Message from an actor or the learner to a replay server. Shards are numbered within the server, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// First message of a conversation. It is repeated after `Refused(NotGreeted)`, and may be repeated at any time. No
    /// frames. Answer: `Welcome` or `Refused`.
    Hello(Hello),
    /// From an actor: rows for one shard. Frames: rows `[rows, row_bytes]`; with `has_priorities` also |td| `[rows]`
    /// f32. Answer: `Inserted` when the rows are in the table. The rate limiter may delay the answer.
    Insert {
        /// Target shard.
        shard: u16,
        /// Number of the batch: 1, 2, 3, … per shard and incarnation. The server drops a batch with a repeated number,
        /// and does not accept a batch whose number is above the next expected one.
        sequence: BatchSequence,
        /// Number of rows in the frame.
        rows: u32,
        /// Whether the message has the second frame.
        has_priorities: bool,
    },
    /// From the learner: requests `count` items of one shard. No frames. Answer: `Sampled` or `NotSampled`, within
    /// `timeout_ms`.
    Sample {
        /// Number chosen by the client. The answer repeats it.
        request: u64,
        /// Target shard.
        shard: u16,
        /// Number of requested items. If it is 0, the rate limiter only accounts the share.
        count: u32,
        /// Amount that the rate limiter accounts on this shard: the batch size divided by the number of shards drawn
        /// from.
        share: f64,
        /// Time for which the rate limiter may hold this request back, in milliseconds.
        timeout_ms: u32,
    },
    /// From the learner: new |td| for sampled items. Frames: keys `[count]` u64, |td| `[count]` f32. No answer; stale
    /// keys are counted.
    UpdatePriorities {
        /// Target shard.
        shard: u16,
        /// Number of items in the frames.
        count: u32,
    },
}

/// Message from a replay server to the client that sent the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The handshake is complete. No frames.
    Welcome {
        /// State of each shard of this server, in order.
        shards: Vec<ShardState>,
        /// Number of insert batches per shard that the client may have unacknowledged.
        window: u32,
    },
    /// The request was not carried out. No frames.
    Refused(Refusal),
    /// All batches of this client up to `sequence` are in the table, except refused rows. No frames.
    Inserted {
        /// Shard that inserted.
        shard: u16,
        /// Highest sequence in the table. It also acknowledges all lower ones.
        sequence: BatchSequence,
        /// Number of rows of the latest batch that were refused because a value is not finite or out of bounds. The
        /// server counts them under the client's name.
        rows_refused: u32,
        /// Number of insert batches that the client may have unacknowledged on this shard from now on.
        credit: u32,
    },
    /// A sample. Frames: keys `[count]` u64, probabilities `[count]` f64, rows `[count, row_bytes]`, actors `[count]`
    /// u32. The probability of an item is its priority divided by the mass, at the moment of sampling. The actor of an
    /// item is the one that inserted the item, or [`crate::ids::ActorId::UNKNOWN`] if the server does not know this
    /// actor.
    Sampled {
        /// As in the request.
        request: u64,
        /// Shard that was sampled.
        shard: u16,
        /// Number of items in the frames, as requested.
        count: u32,
        /// State of the shard after the draw.
        state: ShardState,
    },
    /// The rate limiter held the sample back for its whole `timeout_ms`. No frames.
    NotSampled {
        /// As in the request.
        request: u64,
        /// Shard that was asked.
        shard: u16,
        /// Number of rows that must be inserted before the sample is allowed.
        inserts_missing: u64,
        /// Present state of the shard.
        state: ShardState,
    },
}

/// State of a shard. A client needs the states to sample from several shards with exact probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ShardState {
    /// Number of rows in the table.
    pub items: u64,
    /// Sum of all priorities.
    pub mass: f64,
    /// Number of rows inserted since the table was created.
    pub inserts: u64,
}

/// Message from the learner to all subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The newest weights. Frames: `[parameters]` f32 by `PolicyArch::tensor_layout`. The learner repeats the message
    /// every second, so that a process that starts later need not request it.
    Policy {
        /// Number of publications so far.
        version: PolicyVersion,
        /// `PolicyArch::hash`. A receiver with another architecture refuses the weights and reports the difference.
        arch_hash: u64,
        /// `ClusterConfig::hash`.
        cluster_hash: u64,
        /// `digest64` of the weights frame.
        checksum: u64,
        /// Number of floats in the frame.
        parameters: u32,
        /// Progress of the run when the weights were published.
        run: RunPosition,
    },
}

/// Progress of a run over all of its starts. The run's log uses these numbers as its axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunPosition {
    /// Number of updates of the learner.
    pub updates: u64,
    /// Number of environment steps of all actors, as far as the learner knows.
    pub env_steps: u64,
}
