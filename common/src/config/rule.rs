//! [`Rule`]: one thing that settings must obey, as a row of a table.

/// Whether it holds, the key that is wrong otherwise, and what would be valid.
pub(super) type Rule = (bool, &'static str, String);

/// What would be valid, where it is the same whatever is set.
pub(super) fn expect(text: &str) -> String {
    text.to_owned()
}
