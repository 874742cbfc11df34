//! [`Rule`]: one condition on settings, as a row of a table.

/// A rule: whether the condition holds, the key that is reported if it does not hold, and a description of the valid
/// values.
pub(super) type Rule = (bool, &'static str, String);

/// Returns a description of valid values that does not depend on other settings.
pub(super) fn expect(text: &str) -> String {
    text.to_owned()
}
