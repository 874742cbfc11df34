//! [`LogLimit`]: limits how many log lines of one kind a peer can cause.
//!
//! A peer decides how many wrong messages it sends, so without a limit it would decide how much is logged. The first
//! few lines per peer and kind are logged, then one per interval. Suppressed lines are counted, and the next logged
//! line of that kind reports their number.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Number of lines of one kind that one peer may cause before the limit applies.
pub const PEER_LINES: u32 = 3;
/// Minimum interval between two logged lines of one kind about one peer, after the first [`PEER_LINES`].
pub const PEER_EVERY: Duration = Duration::from_secs(10);
/// Number of lines of one kind that all peers together may cause before the limit applies.
pub const KIND_LINES: u32 = 20;
/// Minimum interval between two logged lines of one kind about all peers, after the first [`KIND_LINES`].
pub const KIND_EVERY: Duration = Duration::from_secs(1);
/// Time after which a count starts again at zero, if no line was requested meanwhile.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of remembered pairs of peer and kind. When it is reached, all pairs are forgotten; the limit for all
/// peers together still holds.
const PEERS_MAX: usize = 4_096;

/// Decides which lines are logged, by peer and by kind. Its memory is bounded.
#[derive(Debug)]
pub struct LogLimit<P> {
    peers: HashMap<(P, &'static str), Budget>,
    kinds: HashMap<&'static str, (Budget, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Budget {
    lines: u32,
    /// Time of the latest request for a line, whether or not the line was logged.
    wanted: Duration,
    logged: Duration,
}

impl Budget {
    fn spend(&mut self, now: Duration, lines: u32, every: Duration) -> bool {
        if now.saturating_sub(self.wanted) >= FORGET_AFTER {
            *self = Self::default();
        }
        self.wanted = now;
        let is_admitted = self.lines < lines || now.saturating_sub(self.logged) >= every;
        if is_admitted {
            self.lines += 1;
            self.logged = now;
        }
        is_admitted
    }
}

impl<P: Hash + Eq> Default for LogLimit<P> {
    fn default() -> Self {
        Self { peers: HashMap::new(), kinds: HashMap::new() }
    }
}

impl<P: Hash + Eq> LogLimit<P> {
    /// Returns `Some` if a line of this kind about this peer may be logged now. The returned number counts the lines of
    /// this kind that were suppressed since the last logged line of this kind; the caller should log the number.
    pub fn admit(&mut self, peer: P, kind: &'static str, now: Duration) -> Option<u64> {
        if self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        let peer = self.peers.entry((peer, kind)).or_default();
        let (all, left_out) = self.kinds.entry(kind).or_default();
        if peer.spend(now, PEER_LINES, PEER_EVERY) && all.spend(now, KIND_LINES, KIND_EVERY) {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(1_000 + n)
    }

    #[test]
    fn a_peer_gets_a_few_lines_and_then_one_in_a_while_that_says_what_was_left_out() {
        let mut limit = LogLimit::default();
        let first: Vec<_> = (0..5).map(|_| limit.admit(1, "malformed", second(0))).collect();
        assert_eq!(first, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(limit.admit(1, "malformed", second(9)), None);
        assert_eq!(limit.admit(1, "malformed", second(10)), Some(3));
        assert_eq!(limit.admit(1, "malformed", second(11)), None);
        assert_eq!(limit.admit(2, "malformed", second(11)), Some(1), "another peer has its own");
        assert_eq!(limit.admit(1, "refused", second(11)), Some(0), "another kind, too");
    }

    #[test]
    fn strangers_by_the_thousand_share_one_limit_and_a_bounded_memory() {
        let mut limit = LogLimit::default();
        let lines =
            (0..10_000).filter_map(|peer| limit.admit(peer, "malformed", second(0))).count();
        assert_eq!(lines, KIND_LINES as usize);
        assert!(limit.peers.len() <= PEERS_MAX);
        assert_eq!(limit.admit(0, "malformed", second(1)), Some(10_000 - u64::from(KIND_LINES)));
    }

    #[test]
    fn a_minute_of_quiet_is_forgiven() {
        let mut limit = LogLimit::default();
        let lines = (0..9).filter_map(|_| limit.admit(1, "malformed", second(0))).count();
        assert_eq!(lines, 3);
        let again: Vec<_> = (0..4).map(|_| limit.admit(1, "malformed", second(60))).collect();
        assert_eq!(again, [Some(6), Some(0), Some(0), None]);
    }
}
