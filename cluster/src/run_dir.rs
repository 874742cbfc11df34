//! A run directory: `config.toml metrics.jsonl checkpoints/ report.html` and TensorBoard events.

use anyhow::Context;
use common::config::{Resolved, load_run};
use common::process::Usage;
use fs_err as fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the resolved configuration in a run directory.
const CONFIG: &str = "config.toml";

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Makes the directory of a new run and writes its configuration.
    ///
    /// # Errors
    /// There is a run in it already, or it cannot be written.
    pub fn create(path: &Path, resolved: &Resolved) -> anyhow::Result<Self> {
        let run = Self(path.to_owned());
        if run.0.join(CONFIG).exists() {
            return Err(Usage(format!(
                "{} holds a run already: choose another --run-dir, or continue it with --resume",
                path.display()
            ))
            .into());
        }
        fs::create_dir_all(run.checkpoints())?;
        run.write_config(resolved)?;
        Ok(run)
    }

    /// Opens the directory of an earlier run.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.join(CONFIG).is_file() {
            let path = path.display();
            return Err(Usage(format!("{path} holds no run: it has no {CONFIG}")).into());
        }
        Ok(Self(path.to_owned()))
    }

    /// `runs/ENV-YYYYMMDD-HHMMSS-seedN`, with a number behind it where that is taken.
    pub fn fresh(env: &str, seed: u64, unix_time: Duration) -> PathBuf {
        let name: String = env
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        let stamp =
            humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + unix_time).to_string();
        let stamp: String = stamp.chars().filter(char::is_ascii_digit).collect();
        let base = format!("runs/{name}-{}-{}-seed{seed}", &stamp[..8], &stamp[8..]);
        (1..)
            .map(|n| PathBuf::from(if n == 1 { base.clone() } else { format!("{base}-{n}") }))
            .find(|path| !path.exists())
            .expect("some number is free")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// The run's configuration.
    ///
    /// # Errors
    /// It does not load.
    pub fn config(&self) -> anyhow::Result<Resolved> {
        Ok(load_run(&self.0.join(CONFIG))?)
    }

    /// Replaces the run's configuration, whole or not at all.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_config(&self, resolved: &Resolved) -> anyhow::Result<()> {
        let partial = self.0.join(".config.toml.partial");
        fs::write(&partial, resolved.to_toml())?;
        fs::rename(&partial, self.0.join(CONFIG)).context("write the run's configuration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::{Layers, load};

    #[test]
    fn a_run_directory_is_not_used_twice_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let set = vec!["run.seed=9".to_owned()];
        let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
        let run = RunDir::create(dir.path(), &resolved).unwrap();
        assert_eq!(run.config().unwrap().config, resolved.config);
        let error = RunDir::create(dir.path(), &resolved).unwrap_err().to_string();
        assert!(error.contains("holds a run already"), "{error}");
        assert!(RunDir::open(&dir.path().join("checkpoints")).is_err());
    }

    #[test]
    fn fresh_names_say_environment_time_and_seed() {
        let name = RunDir::fresh("gym:a/B-v1", 3, Duration::from_secs(1_600_000_000));
        assert_eq!(name, Path::new("runs/gym_a_B-v1-20200913-122640-seed3"));
    }
}
