//! What a transport dropped, refused and repaired, as plain counters; the metrics registry reads them by name.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts upwards. Relaxed: a number for people, nothing is ordered by it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one transport, over all its endpoints. Shared by reference, never reset.
        #[derive(Debug, Default)]
        pub struct TransportStats {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl TransportStats {
            /// Every counter's name and value, in the order of their declaration.
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Replies to a peer that is gone.
    dropped_no_peer,
    /// Replies to a peer that does not read.
    dropped_slow_peer,
    /// News replaced by newer news before a slow subscriber took them.
    dropped_outdated,
    /// Messages lost or cut off by a fault plan; always 0 over ZeroMQ, which loses without telling.
    dropped_by_fault,
    /// Messages beyond the limits, not sent or not delivered.
    refused_oversize,
    /// Connections that broke and were made again.
    reconnects,
    /// Connections that a guard accepted.
    guard_accepted,
    /// Connections closed at once because the port held as many as it may.
    guard_refused_connections,
    /// Connections closed because their ZMTP handshake did not end in time.
    guard_refused_timeout,
    /// Connections closed for a wrong ZMTP greeting or READY.
    guard_refused_handshake,
    /// Connections closed for reserved flags, or for a command after the handshake.
    guard_refused_protocol,
    /// Connections closed for announcing a frame beyond the limit.
    guard_refused_frame_bytes,
    /// Connections closed for a message of too many frames or bytes.
    guard_refused_message,
    /// Connections closed for more messages than a subscriber needs.
    guard_refused_subscriptions,
    /// Connections closed because the peer said nothing for too long.
    guard_closed_silent,
    /// Connections closed because the peer took nothing for too long.
    guard_closed_stalled,
    /// Connections closed because their replies held the most memory when there was none left.
    guard_closed_memory,
}
