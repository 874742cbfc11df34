//! [`Index`]: the position of this server among a run's replay servers. It can be read from the host's name. An
//! orchestrator that numbers its hosts can therefore start all servers with the same options.

use common::about;
use common::process::Usage;
use std::fmt;
use std::str::FromStr;

/// Value of the option `--index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The given number.
    Number(usize),
    /// The number at the end of the host's name.
    Auto,
}

impl Index {
    /// Returns the number.
    ///
    /// # Errors
    /// Returns an error if the number must come from the host's name, but the name does not end in a number.
    pub fn number(self) -> Result<usize, Usage> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Auto => of_host(&about::host_name()),
        }
    }
}

/// Returns the number at the end of a host's name, ignoring its domain.
fn of_host(name: &str) -> Result<usize, Usage> {
    let host = name.split('.').next().unwrap_or_default();
    let digits = &host[host.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    digits.parse().map_err(|_| {
        Usage(format!(
            "--index auto: the host's name is {name:?}, expected one with a number at its end, such as replay-3"
        ))
    })
}

impl FromStr for Index {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Number).map_err(|_| "expected a whole number, or auto".to_owned())
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Auto => write!(f, "auto on host {}", about::host_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_at_the_end_of_a_hosts_name_counts_not_that_of_its_domain() {
        for (name, number) in [
            ("replay-3", 3),
            ("replay-0.replay.sapex-1.svc.cluster.local", 0),
            ("node017", 17),
            ("a2-b10", 10),
        ] {
            assert_eq!(of_host(name).unwrap(), number, "{name}");
        }
    }

    #[test]
    fn a_host_without_a_number_is_named() {
        for name in ["replay", "", "replay-3a", "replay.node-1", "node99999999999999999999999"] {
            let error = of_host(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn an_index_is_a_number_or_auto() {
        assert_eq!("4".parse(), Ok(Index::Number(4)));
        assert_eq!("auto".parse(), Ok(Index::Auto));
        assert_eq!("-1".parse::<Index>(), Err("expected a whole number, or auto".to_owned()));
    }
}
