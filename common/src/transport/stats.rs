//! Counters of a transport: messages dropped or refused, connections made again, and connections accepted, refused or
//! closed by a guard.

use crate::telemetry::metric_spec::{MetricKind, MetricSpec};
use crate::telemetry::metrics::{Metrics, MetricsError};
use prometheus::IntCounter;

/// A counter that only rises, with its name.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    count: IntCounter,
}

impl Counter {
    fn unregistered(name: &'static str) -> Self {
        let count = IntCounter::new(name, name).expect("a field's name is a metric's name");
        Self { name, count }
    }

    /// Returns the name of the counted events, as in the name of the metric.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the count so far.
    pub fn get(&self) -> u64 {
        self.count.get()
    }

    pub(super) fn increment(&self) {
        self.count.inc();
    }
}

macro_rules! counters {
    ($($name:ident: $unit:literal, $help:literal, $when_bad:literal;)*) => {
        /// The metrics of a transport.
        pub const METRICS: &[MetricSpec] = &[$(MetricSpec {
            name: concat!("sapex_transport_", stringify!($name), "_", $unit, "_total"),
            kind: MetricKind::Counter,
            unit: $unit,
            help: $help,
            when_bad: $when_bad,
            labels: &[],
        },)*];

        /// Counters of one transport, over all its endpoints. They are shared by reference and never reset.
        #[derive(Debug)]
        pub struct TransportStats {
            $(#[doc = $help] pub $name: Counter,)*
        }

        /// Creates counters that are not exported.
        impl Default for TransportStats {
            fn default() -> Self {
                Self { $($name: Counter::unregistered(stringify!($name)),)* }
            }
        }

        impl TransportStats {
            /// Creates counters that are exported with the metrics of a process.
            ///
            /// # Errors
            /// Returns an error if the registry has other metrics of these names.
            pub fn exported(metrics: &Metrics) -> Result<Self, MetricsError> {
                let mut specs = METRICS.iter();
                let mut next = |name| {
                    let spec = specs.next().expect("a row for each field");
                    Ok(Counter { name, count: metrics.counter(spec)? })
                };
                Ok(Self { $($name: next(stringify!($name))?,)* })
            }

            /// Returns every counter's name and value, in the order of declaration.
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    dropped_no_peer: "replies",
        "Replies to a peer that is gone.",
        "Rises steadily: clients come and go; the log names them.";
    dropped_slow_peer: "replies",
        "Replies dropped because the peer does not read, or because there was no memory for them.",
        "Above 0: a client asks for more than it takes; the log names it.";
    dropped_outdated: "news",
        "News replaced by newer news before a slow subscriber took them.",
        "Near the publications: weights are published faster than the network carries them. Raise learner.publish_updates.";
    dropped_by_fault: "messages",
        "Messages lost or cut off by a fault plan of the tests.",
        "Above 0: never, outside of tests.";
    refused_oversize: "messages",
        "Messages beyond the limits, not sent or not delivered.",
        "Above 0: rows, batches or a policy are too large; the log says by how much.";
    reconnects: "connections",
        "Connections that broke and were made again.",
        "Rises steadily: the network or the process on the other side is unstable.";
    guard_accepted: "connections",
        "Connections that a guard accepted.",
        "Rises fast: clients reconnect all the time, or strangers have found the port.";
    guard_refused: "connections",
        "Connections closed at once because the port held as many as it may.",
        "Above 0: too many clients, or strangers; see also the limit on open files.";
    guard_refused_timeout: "connections",
        "Connections closed because their ZMTP handshake did not end in time.",
        "Above 0: something other than a client connects, such as a scanner or a health check.";
    guard_refused_tls: "connections",
        "Connections closed because TLS was not agreed on: a certificate that one side refuses, no TLS, or no handshake in time.",
        "Above 0: wrong or expired certificates, a process without [tls], or strangers; the log names peer and reason.";
    guard_refused_handshake: "connections",
        "Connections closed for a wrong ZMTP greeting or READY.",
        "Above 0: something other than a client connects; the log names it.";
    guard_refused_protocol: "connections",
        "Connections closed for reserved flags or an unknown command.",
        "Above 0: a client does not speak ZMTP 3.0 or 3.1; the log names it.";
    guard_refused_frame_bytes: "connections",
        "Connections closed for announcing a frame beyond the limit.",
        "Above 0: a client or server is broken or hostile; the log names it.";
    guard_refused_message: "connections",
        "Connections closed for a message of too many frames or bytes.",
        "Above 0: a client or server is broken or hostile; the log names it.";
    guard_refused_subscriptions: "connections",
        "Connections closed for more subscriptions than a subscriber needs.",
        "Above 0: a subscriber is broken or hostile; the log names it.";
    guard_closed_silent: "connections",
        "Connections closed because the other side said nothing for too long.",
        "Above 0: a machine or the network between vanished.";
    guard_closed_stalled: "connections",
        "Connections closed because the peer took nothing for too long.",
        "Above 0: a client hangs, or the network between vanished.";
    guard_closed_memory: "connections",
        "Connections closed because their replies held the most memory when there was none left.",
        "Above 0: clients ask for much and do not read; the log names them.";
    guard_closed_useless: "connections",
        "Connections closed in favour of a newcomer at a full port, because they had been of no use for long.",
        "Above 0: strangers fill the port, or there are too many clients.";
}
