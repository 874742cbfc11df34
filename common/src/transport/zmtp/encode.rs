//! [`Pieces`]: encodes handshakes, heartbeats and messages as pieces for vectored writes.

use super::rules::announce_heartbeats;
use super::{CONTEXT_BYTES_MAX, FLAG_COMMAND, FLAG_LONG, FLAG_MORE, GREETING_BYTES, PING, PONG};
use crate::transport::Message;
use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Maximum length of a frame that is copied into a buffer with its neighbours. A longer frame is written from its own
/// memory.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Bytes to be written to a peer, in the order in which they were added.
#[derive(Debug, Default)]
pub(in crate::transport) struct Pieces {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Headers and short frames that follow the last piece of the queue.
    short: BytesMut,
}

impl Pieces {
    /// Adds a greeting for the mechanism NULL.
    pub(super) fn greeting(&mut self) {
        let mut greeting = [0; GREETING_BYTES];
        (greeting[0], greeting[9]) = (0xff, 0x7f);
        announce_heartbeats(&mut greeting);
        greeting[12..16].copy_from_slice(b"NULL");
        self.short.extend_from_slice(&greeting);
    }

    /// Adds READY for a socket of this type.
    pub(super) fn ready(&mut self, socket_type: &str) {
        let length = u32::try_from(socket_type.len()).expect("a short name").to_be_bytes();
        self.command(&[b"\x05READY\x0bSocket-Type", &length, socket_type.as_bytes()]);
    }

    /// Adds PING. Its time to live is 0: the peer decides how long it waits for us.
    pub(in crate::transport) fn ping(&mut self) {
        self.command(&[PING, &[0, 0]]);
    }

    /// Adds the answer to a PING.
    pub(in crate::transport) fn pong(&mut self, context: &[u8]) {
        self.command(&[PONG, &context[..context.len().min(CONTEXT_BYTES_MAX)]]);
    }

    fn command(&mut self, parts: &[&[u8]]) {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        self.short.put_slice(&[FLAG_COMMAND, u8::try_from(size).expect("our commands are short")]);
        parts.iter().for_each(|part| self.short.extend_from_slice(part));
    }

    /// Adds a message.
    pub(in crate::transport) fn message(&mut self, message: Message) {
        let mut left = message.frames.len();
        for frame in message.frames {
            left -= 1;
            let more = if left > 0 { FLAG_MORE } else { 0 };
            match u8::try_from(frame.len()) {
                Ok(size) => self.short.put_slice(&[more, size]),
                Err(_) => {
                    self.short.put_u8(more | FLAG_LONG);
                    self.short.put_u64(frame.len() as u64);
                }
            }
            if frame.len() <= COPIED_BYTES_MAX {
                self.short.extend_from_slice(&frame);
            } else {
                self.seal();
                self.bytes += frame.len();
                self.queue.push_back(frame);
            }
        }
    }

    /// Returns the number of all bytes, including those that are not sealed.
    pub(in crate::transport) fn byte_len(&self) -> usize {
        self.bytes + self.short.len()
    }

    /// Moves the short pieces to the queue, so that they can be written.
    pub(in crate::transport) fn seal(&mut self) {
        if !self.short.is_empty() {
            self.bytes += self.short.len();
            self.queue.push_back(self.short.split().freeze());
        }
    }
}

/// The sealed pieces as a buffer; unsealed ones are not included.
impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.queue.front().map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.queue);
        filled.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "advanced beyond the end");
        self.bytes -= bytes;
        while let Some(front) = self.queue.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.queue.pop_front();
        }
    }
}
