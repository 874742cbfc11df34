//! Runs the peers' scripts: one JSON line each, see bench/README.md.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the virtual environments are, unless SAPEX_BENCH_VENV says otherwise.
const VENV: &str = ".bench-venv";

/// A peer's figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PeerFigure {
    pub(super) peer: String,
    pub(super) version: String,
    pub(super) figure: f64,
}

/// The scripts, if they were asked for.
#[derive(Debug)]
pub(super) struct Peers {
    scripts: Option<PathBuf>,
    venv: PathBuf,
}

impl Peers {
    /// Scripts of `bench` (the repository's folder); `None` runs no peers.
    pub(super) fn new(bench: Option<&Path>) -> Self {
        let venv =
            std::env::var_os("SAPEX_BENCH_VENV").map_or_else(|| PathBuf::from(VENV), PathBuf::from);
        Self { scripts: bench.map(|bench| bench.join("peers")), venv }
    }

    /// The interpreter of a virtual environment.
    pub(super) fn python(&self, venv: &str) -> PathBuf {
        self.venv.join(venv).join("bin/python")
    }

    /// Runs one script and waits for it; nothing else should run meanwhile.
    pub(super) fn run(
        &self,
        venv: &str,
        script: &str,
        args: &[&str],
    ) -> Result<PeerFigure, String> {
        let Some(scripts) = &self.scripts else { return Err("not run (--peers)".to_owned()) };
        let python = self.python(venv);
        let output = Command::new(&python)
            .arg(scripts.join(script))
            .args(args)
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        let line = String::from_utf8_lossy(&output.stdout);
        let last = line.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|_| format!("{script} failed ({})", output.status))
    }
}
