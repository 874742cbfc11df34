//! `sapex export`: a run's newest policy for other programs.

use crate::cli::{Export, Format};
use crate::finish::newest_checkpoint;
use crate::run_dir::RunDir;
use common::policy::snapshot::PolicySnapshot;
use std::path::PathBuf;

/// Writes the policy and returns where. The file is read back and checked before this returns.
///
/// # Errors
/// The run has no checkpoint, its policy does not load, or the file cannot be written.
pub fn export(export: &Export) -> anyhow::Result<PathBuf> {
    let run = RunDir::open(&export.run)?;
    let (snapshot, arch) =
        PolicySnapshot::load(&newest_checkpoint(&run)?.join("policy.safetensors"))?;
    match export.format {
        Format::Safetensors => {
            let out = export.out.clone().unwrap_or_else(|| run.path().join("policy.safetensors"));
            snapshot.save(&out, &arch)?;
            let (written, _) = PolicySnapshot::load(&out)?;
            anyhow::ensure!(
                written.checksum == snapshot.checksum,
                "{} reads back differently",
                out.display()
            );
            Ok(out)
        }
    }
}
