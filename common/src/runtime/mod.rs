//! The run-time floor of every process: how it stops, what time it is, where its randomness comes from, how it waits.
//!
//! - [`shutdown`]: signals, named tasks and threads, a drain with a deadline.
//! - [`clock`]: the only place that reads the machine's clocks; a virtual twin for tests and replays.
//! - [`seed`]: the seed tree run → role → index → `Pcg64`, and generators that can be saved exactly.
//! - [`memory`]: how much memory the process may use.
//! - [`backoff`]: jittered exponential delays between attempts.
//! - [`scratch`]: private folders that do not outlive their process.

pub mod backoff;
pub mod clock;
pub mod memory;
pub mod scratch;
pub mod seed;
pub mod shutdown;
