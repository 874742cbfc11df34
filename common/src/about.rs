//! Information about the build and the machine. `--version` prints the build. A run's log records the command, the
//! version and the machine.

use std::fmt;

/// Parses the program's arguments. `--version` prints `build`.
pub fn parse<A: clap::Parser>(build: &Build) -> A {
    let matches = arguments::<A>(build).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

pub(crate) fn arguments<A: clap::CommandFactory>(build: &Build) -> clap::Command {
    // clap requires a string with static lifetime.
    let version: &'static str = Box::leak(build.to_string().into_boxed_str());
    A::command().version(version)
}

/// Version, commit and optional features of a program. The macro [`build!`](crate::build) creates it.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Version of all crates.
    pub version: &'static str,
    /// Commit that the program was built from. `None` if the build did not set `SAPEX_COMMIT`; `make` sets it.
    pub commit: Option<&'static str>,
    /// Pairs (name, enabled), one per optional feature. `enabled` says whether the program was built with the feature.
    pub features: &'static [(&'static str, bool)],
}

/// Creates the [`Build`] of the calling crate, with the given feature names: `build!("torch", "mujoco")`.
///
/// This is a macro, because a function would read the commit and the features of this crate, not those of the calling
/// program.
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
    /// Returns the commit, or `None` if it is unset or empty.
    pub fn known_commit(&self) -> Option<&'static str> {
        self.commit.filter(|commit| !commit.is_empty())
    }
}

/// Formats as `0.1.0 (commit 1a2b3c4, x86_64-linux, needs x86-64-v1, torch yes, mujoco no)`.
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

/// Returns architecture and operating system, such as `x86_64-linux`.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Returns the lowest processor level on which the program runs, such as `x86-64-v3`. Outside x86-64 this is the name
/// of the architecture. At run time the policy kernels use faster instructions if the processor has them.
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

/// Returns the processor's model name, or `None` if `/proc/cpuinfo` does not name it.
pub fn processor() -> Option<String> {
    let info = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Some(name?.1.trim().to_owned())
}

/// Returns the host name from `uname`.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the number of processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns a description of the machine, such as `AMD EPYC, 2 cores, x86_64-linux`.
pub fn machine() -> String {
    let processor = processor().unwrap_or_else(|| "unknown processor".to_owned());
    let cores = cores();
    let cores = format!("{cores} core{}", if cores == 1 { "" } else { "s" });
    format!("{processor}, {cores}, {}", platform())
}

/// Returns the command line that started this process, quoted for a shell. The first word is the name of the program
/// without its folder.
pub fn command() -> String {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let program = std::path::Path::new(&program).file_name().unwrap_or_default().to_owned();
    let words = std::iter::once(program).chain(words);
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// Returns `word` as a shell argument. Adds single quotes if the word is empty or may contain characters that a shell
/// interprets.
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
