//! [`Rule`]: one condition on settings, as a row of a table.

/// Whether the condition holds, the key to report if it does not, and the description of valid values.
pub(super) type Rule = (bool, &'static str, String);

/// Returns a description of valid values that does not depend on other settings.
pub(super) fn expect(text: &str) -> String {
    text.to_owned()
}
