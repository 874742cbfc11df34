//! Runs the scripts of the peers. Each script prints its figure as one JSON line, see bench/README.md.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folder of the peers' virtual environments, unless the variable SAPEX_BENCH_VENV is set.
const VENV: &str = ".bench-venv";

/// A figure that a peer measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PeerFigure {
    pub(super) peer: String,
    pub(super) version: String,
    pub(super) figure: f64,
}

/// Runner of the peers' scripts.
#[derive(Debug)]
pub(super) struct Peers {
    scripts: Option<PathBuf>,
    venv: PathBuf,
}

impl Peers {
    /// Creates a runner. `bench` is the folder `bench` of the repository. If it is `None`, no peer is run.
    pub(super) fn new(bench: Option<&Path>) -> Self {
        let venv =
            std::env::var_os("SAPEX_BENCH_VENV").map_or_else(|| PathBuf::from(VENV), PathBuf::from);
        Self { scripts: bench.map(|bench| bench.join("peers")), venv }
    }

    /// Returns the Python interpreter of a virtual environment.
    pub(super) fn python(&self, venv: &str) -> PathBuf {
        self.venv.join(venv).join("bin/python")
    }

    /// Runs one script and returns its figure. Nothing else should run at the same time.
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
