//! The protocol: the messages between the processes. `docs/protocol.md` specifies every byte of them.
//!
//! A message is a small typed header frame followed by raw data frames. Float arrays are never passed through a
//! serializer. Requests and replies travel between a DEALER (actor, learner) and a ROUTER (replay server). Events
//! travel from a PUB (learner) to SUBs (actors).
//!
//! - [`message`]: the closed enums [`Request`], [`Reply`], [`Event`].
//! - [`codec`]: encoding of headers and messages; the only file that names bincode.
//! - [`rows`]: data frames as typed slices, checked before they are used.
//! - [`link`]: a client's connection to a replay server. It sends greetings and detects a silent server.
//! - [`handshake`]: the greeting and its checks; [`refusal`]: the reasons for refusing a request.
//!
//! **Version rule.** Any change of the messages' bytes requires a new [`PROTOCOL_VERSION`]. Processes of different
//! versions refuse each other. The golden bytes in `common/testdata/wire` record the bytes of the present version.

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
