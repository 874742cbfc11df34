//! Measures this machine.

/// Placeholder.
///
/// # Errors
/// None.
pub fn run(_: &crate::cli::Bench) -> anyhow::Result<()> {
    Ok(())
}
