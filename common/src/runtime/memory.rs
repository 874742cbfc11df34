//! [`bound()`]: the amount of memory that this process may use. A request for more memory can then be refused with a
//! message, instead of an abort of the process.

use std::path::Path;

/// A bound on the memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBound {
    /// Size of the bound in bytes.
    pub bytes: u64,
    /// Source of the bound, for messages.
    pub source: &'static str,
}

/// Returns the smallest bound that the kernel reports: the machine's memory, the limit of a control group, or the limit
/// of the address space. Returns `None` if the kernel reports no bound, for example on systems other than Linux.
pub fn bound() -> Option<MemoryBound> {
    // A missing file sets no bound.
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
    let groups = read("/proc/self/cgroup");
    let limits = group_files(&groups).into_iter().map(|path| read(&path));
    smallest(&read("/proc/meminfo"), limits, &read("/proc/self/limits"))
}

/// Returns the paths of the limit files of some control groups and of all their parent groups. `groups` is the text of
/// `/proc/self/cgroup`. Inside a container the process' own group is the root.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let folders = Path::new(path).ancestors().map(|folder| folder.display().to_string());
        files
            .extend(folders.map(|folder| format!("{root}{}/{name}", folder.trim_end_matches('/'))));
    }
    files
}

/// Returns the smallest of the bounds in these texts. A text that is empty or means "no limit" has no bound.
fn smallest(
    meminfo: &str,
    group_limits: impl Iterator<Item = String>,
    limits: &str,
) -> Option<MemoryBound> {
    let after = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let machine = after(meminfo, "MemTotal:").and_then(|kib| kib.checked_mul(1024));
    let machine = machine.map(|bytes| MemoryBound { bytes, source: "this machine's memory" });
    let groups = group_limits.filter_map(|text| text.trim().parse().ok());
    let group =
        groups.min().map(|bytes| MemoryBound { bytes, source: "the control group's limit" });
    let space = after(limits, "Max address space");
    let space = space.map(|bytes| MemoryBound { bytes, source: "the limit of ulimit -v" });
    [machine, group, space].into_iter().flatten().min_by_key(|memory| memory.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16000000 kB\nMemFree:          100 kB\n";
    const LIMITS: &str = "Max open files            1024                 4096                 files\n\
                          Max address space         unlimited            unlimited            bytes\n";

    #[test]
    fn the_smallest_limit_counts_and_no_limit_is_none() {
        let bound = |groups: &[&str], limits: &str| {
            smallest(MEMINFO, groups.iter().map(ToString::to_string), limits)
        };
        let machine = MemoryBound { bytes: 16_384_000_000, source: "this machine's memory" };
        assert_eq!(bound(&["max\n", "9223372036854771712\n", ""], LIMITS), Some(machine));
        let group = MemoryBound { bytes: 1 << 30, source: "the control group's limit" };
        assert_eq!(bound(&["max", "1073741824\n", "2147483648"], LIMITS), Some(group));
        let limited = LIMITS.replace("unlimited", "536870912");
        assert_eq!(bound(&["1073741824"], &limited).unwrap().bytes, 536_870_912);
        assert_eq!(smallest("", std::iter::empty(), ""), None);
    }

    #[test]
    fn the_limits_of_a_group_and_of_all_around_it_are_looked_for() {
        assert_eq!(
            group_files("0::/a/b\n"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let old = group_files("5:cpu:/x\n7:memory,hugetlb:/y\n");
        assert_eq!(old[0], "/sys/fs/cgroup/memory/y/memory.limit_in_bytes");
        assert_eq!(old.len(), 2);
        assert!(group_files("rubbish").is_empty());
    }
}
