//! [`Ledger`]: the number of the batch that is expected next from each actor. With this number, each batch is inserted
//! exactly once.
//!
//! The ledger keeps two numbers per actor: the highest batch that has arrived (parked or inserted), and the highest
//! batch in the table. An actor numbers its batches 1, 2, 3 … per shard and keeps each batch until it is acknowledged.
//! Therefore only the order has to be checked. A new incarnation of an actor replaces the old one.

use crate::storage::journal::Delivery;
use common::ids::{ActorId, BatchSequence, Incarnation};
use std::collections::{HashMap, VecDeque};

/// Decision about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The batch is the expected one. It now counts as arrived.
    Next,
    /// The table already contains the batch, and all batches up to this number: acknowledge again.
    Inserted(BatchSequence),
    /// The batch has arrived and waits for the rate limiter: do nothing.
    Waiting,
    /// An earlier batch is missing, or the window is exceeded: the actor will resend.
    Gap {
        /// Number of the expected batch.
        expected: BatchSequence,
    },
    /// The ledger does not know this incarnation of the actor: it has not greeted, or a newer one has replaced it.
    Unknown,
}

/// Maximum number of former incarnations that are remembered per actor. A late greeting of a remembered incarnation is
/// not taken for the greeting of a new one.
const PAST_LIVES_MAX: usize = 16;

/// State of the deliveries of each actor. There is one entry per actor, no matter how often it restarts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<ActorId, Entry>,
}

#[derive(Debug)]
struct Entry {
    incarnation: Incarnation,
    arrived: u64,
    inserted: u64,
    past: VecDeque<Incarnation>,
}

impl Ledger {
    /// Creates a ledger that continues after `deliveries`. They contain the last delivery of each actor.
    pub(crate) fn after(deliveries: impl IntoIterator<Item = Delivery>) -> Self {
        let entry = |Delivery { actor, incarnation, sequence: BatchSequence(number) }| {
            let past = VecDeque::new();
            (actor, Entry { incarnation, arrived: number, inserted: number, past })
        };
        Self { entries: deliveries.into_iter().map(entry).collect() }
    }

    /// Handles a greeting. The count of a new incarnation starts at `oldest`. A greeting of a former incarnation is
    /// ignored.
    ///
    /// A greeting of the current incarnation changes nothing, even if it arrives late, except when batches before
    /// `oldest` are missing. These batches were acknowledged and then lost in a power failure, and no process has them
    /// any more. The count then moves forward to `oldest`.
    pub(crate) fn greet(
        &mut self,
        actor: ActorId,
        incarnation: Incarnation,
        oldest: BatchSequence,
    ) {
        let mut past = VecDeque::new();
        if let Some(entry) = self.entries.get_mut(&actor) {
            if entry.incarnation == incarnation {
                entry.inserted = entry.inserted.max(oldest.0.saturating_sub(1));
                entry.arrived = entry.arrived.max(entry.inserted);
                return;
            }
            if entry.past.contains(&incarnation) {
                return;
            }
            past = std::mem::take(&mut entry.past);
            past.push_back(entry.incarnation);
            past.drain(..past.len().saturating_sub(PAST_LIVES_MAX));
        }
        let before = oldest.0.saturating_sub(1);
        self.entries.insert(actor, Entry { incarnation, arrived: before, inserted: before, past });
    }

    /// Decides what to do with a batch.
    pub(crate) fn arrive(
        &mut self,
        actor: ActorId,
        incarnation: Incarnation,
        sequence: BatchSequence,
        window: u32,
    ) -> Arrival {
        let entry = self.entries.get_mut(&actor).filter(|entry| entry.incarnation == incarnation);
        let Some(entry) = entry else { return Arrival::Unknown };
        if sequence.0 <= entry.inserted {
            return Arrival::Inserted(BatchSequence(entry.inserted));
        }
        if sequence.0 <= entry.arrived {
            return Arrival::Waiting;
        }
        let parked = entry.arrived - entry.inserted;
        if sequence.0 != entry.arrived + 1 || parked >= u64::from(window) {
            return Arrival::Gap { expected: BatchSequence(entry.arrived + 1) };
        }
        entry.arrived = sequence.0;
        Arrival::Next
    }

    /// Records that a parked batch is now in the table.
    pub(crate) fn inserted(
        &mut self,
        actor: ActorId,
        incarnation: Incarnation,
        sequence: BatchSequence,
    ) {
        if let Some(entry) = self.entries.get_mut(&actor)
            && entry.incarnation == incarnation
        {
            entry.inserted = sequence.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTOR: ActorId = ActorId(1);
    const LIFE: Incarnation = Incarnation(10);

    fn greeted(oldest: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.greet(ACTOR, LIFE, BatchSequence(oldest));
        ledger
    }

    fn arrive(ledger: &mut Ledger, sequence: u64) -> Arrival {
        ledger.arrive(ACTOR, LIFE, BatchSequence(sequence), 4)
    }

    #[test]
    fn each_batch_is_admitted_once_and_in_order() {
        let mut ledger = greeted(1);
        assert_eq!(arrive(&mut ledger, 2), Arrival::Gap { expected: BatchSequence(1) });
        assert_eq!(arrive(&mut ledger, 1), Arrival::Next);
        assert_eq!(arrive(&mut ledger, 1), Arrival::Waiting);
        ledger.inserted(ACTOR, LIFE, BatchSequence(1));
        assert_eq!(arrive(&mut ledger, 1), Arrival::Inserted(BatchSequence(1)));
        assert_eq!(arrive(&mut ledger, 2), Arrival::Next);
    }

    #[test]
    fn an_actor_cannot_park_more_than_its_window() {
        let mut ledger = greeted(1);
        (1..=4).for_each(|n| assert_eq!(arrive(&mut ledger, n), Arrival::Next));
        assert_eq!(arrive(&mut ledger, 5), Arrival::Gap { expected: BatchSequence(5) });
    }

    #[test]
    fn a_late_greeting_of_the_same_life_changes_nothing_and_a_new_life_starts_anew() {
        let mut ledger = greeted(1);
        assert_eq!(arrive(&mut ledger, 1), Arrival::Next);
        ledger.inserted(ACTOR, LIFE, BatchSequence(1));
        ledger.greet(ACTOR, LIFE, BatchSequence(1));
        assert_eq!(arrive(&mut ledger, 1), Arrival::Inserted(BatchSequence(1)));
        ledger.greet(ACTOR, Incarnation(11), BatchSequence(1));
        assert_eq!(arrive(&mut ledger, 2), Arrival::Unknown);
        assert_eq!(ledger.arrive(ACTOR, Incarnation(11), BatchSequence(1), 4), Arrival::Next);
        ledger.greet(ACTOR, LIFE, BatchSequence(1));
        assert_eq!(ledger.arrive(ACTOR, Incarnation(11), BatchSequence(1), 4), Arrival::Waiting);
    }

    #[test]
    fn a_recovered_ledger_knows_what_was_delivered_and_goes_on_after_batches_that_were_lost() {
        let delivery = Delivery { actor: ACTOR, incarnation: LIFE, sequence: BatchSequence(7) };
        let mut ledger = Ledger::after([delivery]);
        ledger.greet(ACTOR, LIFE, BatchSequence(7));
        assert_eq!(arrive(&mut ledger, 7), Arrival::Inserted(BatchSequence(7)));
        assert_eq!(arrive(&mut ledger, 8), Arrival::Next);
        let mut ledger = Ledger::after([delivery]);
        ledger.greet(ACTOR, LIFE, BatchSequence(11));
        assert_eq!(arrive(&mut ledger, 10), Arrival::Inserted(BatchSequence(10)));
        assert_eq!(arrive(&mut ledger, 11), Arrival::Next);
        ledger.greet(ACTOR, LIFE, BatchSequence(11));
        assert_eq!(arrive(&mut ledger, 11), Arrival::Waiting);
    }

    #[test]
    fn a_restarted_server_continues_where_the_actor_is() {
        let mut ledger = greeted(57);
        assert_eq!(arrive(&mut ledger, 56), Arrival::Inserted(BatchSequence(56)));
        assert_eq!(arrive(&mut ledger, 57), Arrival::Next);
    }
}
