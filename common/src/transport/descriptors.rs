//! The number of connections that the limit on open files allows.

/// File descriptors reserved for other uses: files, the admin port, outgoing connections.
const KEPT: u64 = 256;

/// Returns how many connections a port may hold: `wanted`, or fewer if the process' limit on file descriptors requires
/// it.
///
/// The soft limit is first raised to the hard limit. Its default is low only for the sake of programs that use
/// `select`, which Sapex does not use.
pub(super) fn connections(wanted: usize) -> usize {
    let limit = raise();
    let left = usize::try_from(limit.saturating_sub(KEPT).max(limit / 4)).unwrap_or(usize::MAX);
    if left < wanted {
        tracing::warn!(
            descriptors = limit,
            connections = left,
            wanted,
            "the limit on open files (ulimit -n) leaves fewer connections"
        );
    }
    wanted.min(left)
}

/// Raises the soft limit to the hard limit, and returns the resulting soft limit.
fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, "could not raise the limit on open files");
        return current.unwrap_or(u64::MAX);
    }
    maximum.unwrap_or(u64::MAX)
}
