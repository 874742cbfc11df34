//! Placeholder until the report's own folder lands in this commit series.

use std::path::{Path, PathBuf};

/// Writes `report.html`.
///
/// # Errors
/// The run cannot be read.
pub fn write(run_dir: &Path) -> anyhow::Result<PathBuf> {
    Ok(run_dir.join("report.html"))
}
