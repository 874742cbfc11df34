//! [`Backlog`]: a limit on the number and the bytes of the messages that wait for a peer.
//!
//! A backlog limits the replies of a router, and the messages inside a zeromq socket. Without it, zeromq 0.7 would
//! queue up to 100,000 messages before it makes a sender wait: 17 GB for batches of 172 kB. The length of zeromq's
//! queue cannot be set. But zeromq drops the frames of a message as soon as it has copied them to the connection's
//! buffer. Therefore the first frame carries a permit, which is released when the frame is dropped.

use super::Message;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeromq::ZmqMessage;

/// Room for the messages in flight to one peer or to all peers. Both the number and the bytes of the messages are
/// limited.
#[derive(Debug)]
pub(super) struct Backlog {
    /// One permit per byte.
    room: Arc<Semaphore>,
    bytes_max: u32,
    /// Minimum number of permits that a message takes. Because of this minimum, the permits also limit the number of
    /// messages.
    charge_min: u32,
}

impl Backlog {
    /// Creates room for `messages_max` messages of `bytes_max` bytes in total. A message longer than `bytes_max` needs
    /// all the room.
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let messages_max = u32::try_from(messages_max).unwrap_or(u32::MAX).max(1);
        Self {
            room: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
            charge_min: bytes_max.div_ceil(messages_max),
        }
    }

    fn charge(&self, message: &Message) -> u32 {
        let bytes = u32::try_from(message.byte_len()).unwrap_or(u32::MAX);
        bytes.clamp(self.charge_min, self.bytes_max)
    }

    /// Waits for room and takes it. Dropping the future gives up the place in the queue of waiting callers.
    pub(super) async fn reserve(&self, message: &Message) -> Reservation {
        let charge = self.charge(message);
        let permit = self.room.clone().acquire_many_owned(charge).await;
        Reservation { _permit: permit.expect("this semaphore is never closed") }
    }

    /// Takes room without waiting. Returns `None` if there is too little.
    pub(super) fn try_reserve(&self, message: &Message) -> Option<Reservation> {
        let permit = self.room.clone().try_acquire_many_owned(self.charge(message)).ok()?;
        Some(Reservation { _permit: permit })
    }

    /// Returns how many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        (self.bytes_max as usize).saturating_sub(self.room.available_permits())
    }
}

/// Reserved room for one message. The room is released when the message with the reservation is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// Converts the message to zeromq's type, with this reservation attached. The message must have passed
    /// [`Message::check`].
    pub(super) fn attach(self, mut message: Message) -> ZmqMessage {
        let header = std::mem::take(&mut message.frames[0]);
        message.frames[0] = Bytes::from_owner(Carried { header, _reservation: self });
        ZmqMessage::try_from(message.frames).expect("a checked message has a frame")
    }
}

struct Carried {
    header: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Carried {
    fn as_ref(&self) -> &[u8] {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message::new(vec![Bytes::from(vec![7; bytes])])
    }

    #[test]
    fn room_comes_back_when_the_last_copy_of_the_message_is_dropped() {
        let backlog = Backlog::new(2, 1 << 20);
        let sent = backlog.try_reserve(&message(1)).unwrap().attach(message(1));
        let copy = sent.clone();
        assert_eq!(copy.get(0).unwrap().as_ref(), [7]);
        let second = backlog.try_reserve(&message(1)).unwrap();
        assert!(backlog.try_reserve(&message(1)).is_none(), "two messages are the limit");
        drop(sent);
        assert!(backlog.try_reserve(&message(1)).is_none(), "a copy is still under way");
        drop(copy);
        assert!(backlog.try_reserve(&message(1)).is_some());
        drop(second);
        assert_eq!(backlog.taken(), 0);
    }

    #[test]
    fn bytes_bound_the_backlog_before_the_count_does() {
        let backlog = Backlog::new(1_000, 1_000);
        let reservation = backlog.try_reserve(&message(900)).unwrap();
        assert!(backlog.try_reserve(&message(101)).is_none());
        assert!(backlog.try_reserve(&message(100)).is_some());
        drop(reservation);
        assert!(backlog.try_reserve(&message(5_000)).is_some(), "alone, even a giant gets through");
    }
}
