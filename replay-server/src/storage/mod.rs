//! Storage of a table's rows, and the check that a row must pass.
//!
//! - [`ring`]: fixed-size rows in one block, where a new row overwrites the oldest.
//! - [`block`]: a fixed number of bytes, in memory or in a mapped file.
//! - [`value_check`]: finds numbers that no row may contain, because they would ruin the training.
//!
//! Durable tables (`replay.durability`):
//! - [`files`]: the files of a durable table, and the settings for which they were made.
//! - `slots`: the description that is stored for each row.
//! - [`journal`]: the counters of a table, and the last delivery of each actor.
//! - [`sync`]: flushes the files to the disk.

pub mod block;
pub mod files;
pub mod journal;
pub mod ring;
pub(crate) mod slots;
pub mod sync;
pub mod value_check;
