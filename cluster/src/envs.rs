//! `sapex envs`: lists the environments, or prints the shapes of one environment as settings. It can also write these
//! settings to a file for all roles.

use crate::cli::Settings;
use crate::progress::say;
use crate::train;
use actor_node::env::{bridge, registry};
use common::config::{self, shape_settings};
use common::durable::commit_file;
use common::process::Usage;
use std::path::Path;

/// Prints all environments with a short description. Environments that this build lacks are marked with `*`.
///
/// # Errors
/// Returns an error if settings are given, because settings apply to one environment.
pub fn list(settings: &Settings) -> anyhow::Result<()> {
    if !settings.is_empty() {
        return Err(Usage("settings are of one environment: give its NAME".to_owned()).into());
    }
    let mut missing = None;
    for (name, about) in registry::names() {
        let brings = registry::missing(name);
        let mark = if brings.is_some() { " *" } else { "" };
        say(&format!("{:<26} {about}", format!("{name}{mark}")));
        missing = missing.or(brings);
    }
    for (form, about) in bridge::FORMS {
        say(&format!("{form:<26} {about}"));
    }
    bridge::NEEDS.into_iter().for_each(say);
    if let Some(brings) = missing {
        say(&format!("*: not in this program; `{brings}` builds one that has them"));
    }
    Ok(())
}

/// Prints a `[cluster]` section with the shapes of one environment and the given `[cluster]` settings. If `write` is
/// set, the section is written to that file instead.
///
/// # Errors
/// Returns an error if the environment cannot be made or the file cannot be written.
pub fn shapes(name: &str, write: Option<&Path>, settings: &Settings) -> anyhow::Result<()> {
    let mut layers = settings.layers();
    layers.options.insert(0, ("NAME", format!("cluster.env={}", toml::Value::from(name))));
    let resolved = config::load(&layers)?;
    let shapes = shape_settings(&train::spec(&resolved)?);
    // The section must also contain the given settings, because the shapes depend on them.
    let is_shape = |key: &str| shapes.iter().any(|(shape, _)| *shape == format!("cluster.{key}"));
    let mut lines = vec!["[cluster]".to_owned()];
    for (key, value) in resolved.given("cluster").iter().filter(|(key, _)| !is_shape(key)) {
        lines.push(format!("{key} = {value}"));
    }
    for (key, value) in &shapes {
        lines.push(format!("{} = {value}", key.trim_start_matches("cluster.")));
    }
    let Some(file) = write else {
        lines.iter().for_each(|line| say(line));
        return Ok(());
    };
    let about =
        "# Written by `sapex envs NAME --write FILE`, for --config of every process of a run.";
    commit_file(file, format!("{about}\n{}\n", lines.join("\n")).as_bytes())?;
    say(&format!("written     {}", file.display()));
    Ok(())
}
