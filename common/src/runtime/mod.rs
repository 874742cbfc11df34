//! Services that every process needs at run time: shutdown, time, random seeds, memory bounds, delays and private
//! folders.
//!
//! - [`shutdown`]: signals, named tasks and threads, and a drain with a deadline.
//! - [`clock`]: the only module that reads the machine's clocks; virtual time for tests and replays.
//! - [`seed`]: the seed tree run → role → index → `Pcg64`, and generators that can be saved exactly.
//! - [`memory`]: the amount of memory that the process may use.
//! - [`backoff`]: jittered exponential delays between attempts.
//! - [`scratch`]: private folders that are removed when their process ends.

pub mod backoff;
pub mod clock;
pub mod memory;
pub mod scratch;
pub mod seed;
pub mod shutdown;
