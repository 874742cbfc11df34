//! ZMTP 3.1 (<https://rfc.zeromq.org/spec/37/>), the protocol of ZeroMQ sockets, to the extent that our ports need it.
//!
//! All integers are big-endian. A number in parentheses is a length in bytes.
//!
//! | part | bytes |
//! |---|---|
//! | greeting | 64 bytes: `ff`, padding (8), `7f`, version (2, major first), mechanism (20, zero-padded), rest (32) |
//! | frame | flags (`01` more frames follow, `02` long, `04` command), size (1 byte, or 8 if long), body |
//! | READY | a command, as the first frame: `05 READY`, then properties: each length (1), name, length (4), value |
//! | PING | a command: `04 PING`, time to live (2), context (at most 16); answered by PONG with the same context |
//! | SUBSCRIBE, CANCEL | command `09 SUBSCRIBE` or `06 CANCEL`, or one-frame message `01` or `00`; then the prefix |
//!
//! [`rules`] defines what a peer may send. [`gate`] applies the rules to a stream that zeromq reads. [`decode`] and
//! `encode` read and write whole messages, and `connection` is one connection of a bound port.
//!
//! The mechanism is NULL. A READY that claims an identity is refused. Otherwise a peer could claim the identity of
//! another peer and receive the replies to it.

pub(super) mod connection;
pub mod decode;
pub(super) mod encode;
pub mod gate;
pub mod rules;

/// Length of a greeting.
const GREETING_BYTES: usize = 64;
/// Position of the minor version in a greeting.
const MINOR_AT: usize = 11;
/// Length of a long frame's header.
const LONG_HEADER_BYTES: usize = 9;
const FLAG_MORE: u8 = 0x01;
const FLAG_LONG: u8 = 0x02;
const FLAG_COMMAND: u8 = 0x04;
const FLAGS_RESERVED: u8 = 0xf8;
const PING: &[u8] = b"\x04PING";
const PONG: &[u8] = b"\x04PONG";
const SUBSCRIBE: &[u8] = b"\x09SUBSCRIBE";
const CANCEL: &[u8] = b"\x06CANCEL";
/// Longest context of a PING that must be answered.
const CONTEXT_BYTES_MAX: usize = 16;
