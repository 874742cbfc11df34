//! Newtypes for everything that is counted or named, so that a step is never mistaken for a version.

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
    /// An actor process (or thread), unique within a run and stable across its restarts.
    ActorId(u32)
}
id! {
    /// One life of an actor: drawn at start, so that a restarted actor's sequence numbers are not taken for duplicates.
    Incarnation(u64)
}
id! {
    /// The number of an insert batch within one incarnation, counted from 1.
    BatchSequence(u64)
}
id! {
    /// A replay shard, counted from 0 over all replay servers of a run.
    ShardId(u16)
}
id! {
    /// A version of the policy's weights: the number of publications so far. 0 is the untrained policy.
    PolicyVersion(u64)
}

impl ActorId {
    /// Stands for nobody where an item's actor is not known: it was saved by an earlier start.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

/// Names one life of one slot of a shard: the slot and how often it had been overwritten.
///
/// On the wire a `u64`: generation in the high 32 bits, slot in the low 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ItemKey {
    /// Index of the row in the shard's ring.
    pub slot: u32,
    /// How many items this slot had held before, modulo 2^32.
    pub generation: u32,
}

impl ItemKey {
    /// The wire form.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// Reads the wire form; every value is a key, whether or not a shard knows it.
    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart on purpose")]
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}
