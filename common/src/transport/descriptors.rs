//! How many connections the system lets this process hold.

/// Descriptors that are kept for everything else: files, the admin port, connections that we make.
const KEPT: u64 = 256;

/// The most connections that a port may hold: `wanted`, or what the process' limit on descriptors leaves.
///
/// The soft limit is raised to the hard one first: it is low by default for the sake of programs that use `select`,
/// and none of ours does.
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

/// Raises the soft limit to the hard one, and returns what it is then.
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
