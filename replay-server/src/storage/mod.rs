//! Storage of a table's rows, and the check that a row must pass.
//!
//! - [`ring`]: fixed-size rows in one block, where a new row overwrites the oldest.
//! - [`block`]: the bytes of the ring, in memory or in a mapped file.
//! - [`value_check`]: finds numbers that no row may contain, because they would ruin the training.
//!
//! Durable tables (`replay.durability`):
//! - [`files`]: their files, and what they were made for.
//! - `slots`: what is stored next to each row.
//! - [`journal`]: counters and deliveries.
//! - [`sync`]: flushes the files to the disk.

pub mod block;
pub mod files;
pub mod journal;
pub mod ring;
pub(crate) mod slots;
pub mod sync;
pub mod value_check;
