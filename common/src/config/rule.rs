//! [`Rule`]: one condition on settings, as a row of a table.

/// A rule (holds, key, expected). `holds` says whether the settings meet the condition. If they do not, the error names
/// `key` and shows `expected`, a description of the valid values.
pub(super) type Rule = (bool, &'static str, String);

/// Returns a description of valid values that does not depend on other settings.
pub(super) fn expect(text: &str) -> String {
    text.to_owned()
}
