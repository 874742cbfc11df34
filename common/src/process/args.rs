//! [`Args`]: the arguments that all programs share.

use crate::config::{self, ConfigError, Layers, Resolved};
use std::path::PathBuf;

/// Arguments that all programs share.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Preset to start from, instead of the environment's tuned settings; `sapex presets` lists them.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Settings, as TOML; keys are those of docs/configuration.md. May be repeated, later files win.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// One setting; may be repeated. Wins over the file and over SAPEX__SECTION__KEY.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// The directory of the run to resume.
    #[arg(skip)]
    pub run: Option<PathBuf>,
    /// A program's own options, each as (option, equivalent assignment). `--set` overrides them.
    #[arg(skip)]
    pub options: Vec<(&'static str, String)>,
    /// Show every setting with its origin, and stop.
    #[arg(long)]
    pub print_config: bool,
}

impl Args {
    /// Loads the configuration from these arguments, the environment variables and the program's own settings.
    ///
    /// # Errors
    /// Returns the errors of [`config::load`].
    pub fn load(
        &self,
        program: Vec<(String, toml::Value, &'static str)>,
    ) -> Result<Resolved, ConfigError> {
        config::load(&Layers {
            preset: self.preset.clone(),
            run: self.run.clone(),
            program,
            files: self.config.clone(),
            env: std::env::vars().collect(),
            options: self.options.clone(),
            set: self.set.clone(),
        })
    }
}
