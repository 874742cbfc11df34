//! The protocol: what travels between the processes. `docs/protocol.md` states it byte by byte.
//!
//! A message is a small typed header frame and raw data frames beside it: no float array ever goes through a
//! serializer. Requests and replies travel between a DEALER (actor, learner) and a ROUTER (replay server), events from
//! a PUB (learner) to SUBs (actors).
//!
//! - [`message`]: the closed enums [`Request`], [`Reply`], [`Event`].
//! - [`codec`]: header bytes and message frames; the only file that names bincode.
//! - [`rows`]: data frames as typed slices, checked before they are used.
//! - [`link`]: a client's side of the conversation: greeting and noticing silence.
//! - [`handshake`]: who may talk to whom; [`refusal`]: why not.
//!
//! **Version rule.** [`PROTOCOL_VERSION`] changes with any change of these bytes; processes of different versions refuse
//! each other. Golden bytes in `common/testdata/wire` hold the current ones.

pub mod codec;
pub mod handshake;
pub mod link;
pub mod message;
pub mod refusal;
pub mod rows;

pub use codec::{WireError, decode, encode};
pub use message::{Event, Reply, Request};

/// Version of everything in this module.
pub const PROTOCOL_VERSION: u16 = 4;
