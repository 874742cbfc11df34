//! What a program is and where it runs: what `--version` prints, and what a run notes of its origin.

use std::fmt;

/// The arguments of the program, whose `--version` says what it was built from and for.
pub fn parse<A: clap::Parser>(build: &Build) -> A {
    let matches = arguments::<A>(build).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

pub(crate) fn arguments<A: clap::CommandFactory>(build: &Build) -> clap::Command {
    // clap wants the text for the life of the program.
    let version: &'static str = Box::leak(build.to_string().into_boxed_str());
    A::command().version(version)
}

/// What a program was built from and for. [`build!`](crate::build) makes it.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Version of all crates.
    pub version: &'static str,
    /// The commit, where whoever built it said so (`SAPEX_COMMIT`, as `make` does).
    pub commit: Option<&'static str>,
    /// Optional parts by name, and whether they are there.
    pub features: &'static [(&'static str, bool)],
}

/// The [`Build`] of the crate that calls it, with these of its features: `build!("torch", "mujoco")`.
///
/// A macro, so that commit and features are those of the program and not of this crate.
#[macro_export]
macro_rules! build {
    ($($feature:literal),*) => {
        $crate::about::Build {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("SAPEX_COMMIT"),
            features: &[$(($feature, cfg!(feature = $feature))),*],
        }
    };
}

impl Build {
    /// The commit, unless nobody said it or said nothing.
    pub fn known_commit(&self) -> Option<&'static str> {
        self.commit.filter(|commit| !commit.is_empty())
    }
}

/// `0.1.0 (commit 1a2b3c4, x86_64-linux, needs x86-64-v1, torch yes, mujoco no)`.
impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.known_commit().unwrap_or("unknown");
        write!(f, "{} (commit {commit}, {}, needs {}", self.version, platform(), baseline())?;
        for (feature, is_there) in self.features {
            write!(f, ", {feature} {}", if *is_there { "yes" } else { "no" })?;
        }
        f.write_str(")")
    }
}

/// `x86_64-linux`.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The oldest kind of processor that the program runs on. The arithmetic's kernels choose better instructions by
/// themselves where the machine has them.
fn baseline() -> &'static str {
    if cfg!(not(target_arch = "x86_64")) {
        std::env::consts::ARCH
    } else if cfg!(all(target_feature = "avx512f", target_feature = "avx512vl")) {
        "x86-64-v4"
    } else if cfg!(all(target_feature = "avx2", target_feature = "fma", target_feature = "bmi2")) {
        "x86-64-v3"
    } else if cfg!(all(target_feature = "sse4.2", target_feature = "popcnt")) {
        "x86-64-v2"
    } else {
        "x86-64-v1"
    }
}

/// The processor's name, where the system tells it.
pub fn processor() -> Option<String> {
    let info = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Some(name?.1.trim().to_owned())
}

/// The name of this host, as the system knows it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `AMD EPYC, 2 cores, x86_64-linux`.
pub fn machine() -> String {
    let processor = processor().unwrap_or_else(|| "unknown processor".to_owned());
    let cores = cores();
    let cores = format!("{cores} core{}", if cores == 1 { "" } else { "s" });
    format!("{processor}, {cores}, {}", platform())
}

/// The command that started this process, as a shell would take it.
pub fn command() -> String {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    // Where the program lay is no part of what was asked for.
    let program = std::path::Path::new(&program).file_name().unwrap_or_default().to_owned();
    let words = std::iter::once(program).chain(words);
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// In single quotes where a shell would not take it as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_version_commit_machine_and_parts() {
        let build = Build {
            version: "1.2.3",
            commit: Some("abc1234"),
            features: &[("torch", true), ("mujoco", false)],
        };
        let text = build.to_string();
        assert!(text.starts_with("1.2.3 (commit abc1234, "), "{text}");
        assert!(text.contains(&platform()) && text.contains(", needs "), "{text}");
        assert!(text.ends_with(", torch yes, mujoco no)"), "{text}");
        let unknown = Build { commit: None, ..build };
        assert!(unknown.to_string().contains("commit unknown"), "{unknown}");
    }

    #[test]
    fn a_command_can_be_given_to_a_shell_again() {
        for (word, expected) in [
            ("--env-param", "--env-param"),
            ("run.seed=3", "run.seed=3"),
            ("cluster.hidden=[64, 64]", "'cluster.hidden=[64, 64]'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
