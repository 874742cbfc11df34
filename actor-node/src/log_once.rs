//! [`LogOnce`]: remembers which warnings were logged, so that each is logged once.

use common::spec::digest64;
use std::collections::VecDeque;

/// Number of texts that are remembered. A text that recurs after this many other texts is logged again.
const TEXTS_MAX: usize = 64;

/// Digests of logged texts. Texts that differ only in their digits count as one, because counters and addresses are not
/// new information.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOnce(VecDeque<u64>);

impl LogOnce {
    /// Returns whether the text is new, and remembers it.
    pub(crate) fn is_new(&mut self, text: &str) -> bool {
        let mut shape = String::with_capacity(text.len());
        for letter in text.chars() {
            let digit = letter.is_ascii_digit();
            if !(digit && shape.ends_with('#')) {
                shape.push(if digit { '#' } else { letter });
            }
        }
        let digest = digest64(shape.as_bytes());
        if self.0.contains(&digest) {
            return false;
        }
        if self.0.len() == TEXTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(digest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_new_once_whatever_its_numbers_are() {
        let mut once = LogOnce::default();
        assert!(once.is_new("step 9 failed at 0x7f12"));
        assert!(!once.is_new("step 9 failed at 0x7f12"));
        assert!(!once.is_new("step 10 failed at 0x7f345"));
        assert!(once.is_new("reset failed at 0x7f12"));
        for text in ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}"))) {
            assert!(once.is_new(&text));
        }
        assert_eq!(once.0.len(), TEXTS_MAX, "it does not grow for ever");
    }
}
