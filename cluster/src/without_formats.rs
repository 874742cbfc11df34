//! Replacement for [`record`] and [`video`] in a build without the feature `formats`. It refuses their commands.

use actor_node::evaluation::Evaluation;
use common::process::Usage;

/// Returns the error for `what`, a command or an option that needs the feature.
pub(crate) fn left_out(what: &str) -> anyhow::Error {
    Usage(format!(
        "{what}: this program was built without the feature `formats` (Minari datasets, ONNX, films); `make build` \
         builds it with the feature"
    ))
    .into()
}

/// `sapex record`.
pub mod record {
    use super::{Evaluation, left_out};
    use crate::cli::RecordArgs;

    /// Refuses the command.
    ///
    /// # Errors
    /// Always returns an error, which names the build that has the command.
    pub fn record(_: &RecordArgs) -> anyhow::Result<Evaluation> {
        Err(left_out("sapex record"))
    }
}

/// `sapex eval --video`.
pub mod video {
    use super::{Evaluation, left_out};
    use common::config::Resolved;
    use common::runtime::seed::SeedTree;
    use std::path::{Path, PathBuf};

    /// Refuses the option.
    ///
    /// # Errors
    /// Always returns an error, which names the build that has the option.
    pub fn evaluation(
        _: &Resolved,
        _: &Path,
        _: usize,
        _: SeedTree,
        (path, _): (&Path, usize),
    ) -> anyhow::Result<(Evaluation, PathBuf)> {
        Err(left_out(&format!("--video {}", path.display())))
    }
}
