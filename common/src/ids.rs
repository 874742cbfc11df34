//! Newtypes for counters and identifiers. With them the compiler refuses, for example, a batch sequence where a policy
//! version is expected.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Id of an actor, unique within a run. An actor is a process or a thread. A configured id stays the same across
    /// restarts. With `actor.id = "auto"` the process draws the id when it starts.
    ActorId(u32)
}
id! {
    /// Random number for one start of an actor or of the learner. Sequence numbers begin again after a restart. The new
    /// incarnation shows that they are not duplicates of earlier numbers.
    Incarnation(u64)
}
id! {
    /// Sequence number of an insert batch within one incarnation, counted from 1.
    BatchSequence(u64)
}
id! {
    /// Index of a replay shard, counted from 0 over all replay servers of a run.
    ShardId(u16)
}
id! {
    /// A version of the policy's weights: the number of publications so far. Version 0 is the untrained policy.
    PolicyVersion(u64)
}

impl ActorId {
    /// Placeholder for the id of an unknown actor. Items that a replay server loaded from disk have it, because the
    /// file does not contain the ids of actors.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

/// Key of one item in one slot of a shard: the slot and its generation.
///
/// On the wire the key is a `u64`: the generation in the high 32 bits, the slot in the low 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ItemKey {
    /// Index of the row in the shard's ring.
    pub slot: u32,
    /// Number of items that this slot held before, modulo 2^32.
    pub generation: u32,
}

impl ItemKey {
    /// Returns the wire form.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// Reads the wire form. Every value is a valid key, but a shard need not have an item with this key.
    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart on purpose")]
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}
