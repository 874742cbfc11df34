//! Generates `docs/configuration.md` from `config/default.toml`. Therefore every key is explained only once, next to
//! its default.

use anyhow::{Context as _, Result, bail};
use fs_err as fs;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Path of the generated page.
pub(crate) const PAGE: &str = "docs/configuration.md";

const HEAD: &str = "# Configuration

Generated from `config/default.toml` by `make docs`; edit that file. Every program reads the same settings and uses
the sections that concern it.

## Where a value comes from

Layers, a later one wins:

| layer | where |
|---|---|
| default | `config/default.toml`, built into the programs |
| tuned | `config/tuned/ENV.toml` for the chosen `cluster.env`, built in; see the end of this page |
| run | `config.toml` of the run that goes on (`--resume`) or is looked at (`eval`, `record`); takes the place of tuned settings and presets |
| the program | shapes and action bounds: of native environments from `config/shapes.toml`, built in; `sapex train` asks the environment itself |
| file | `--config FILE`, repeatable, the last one wins |
| environment | `SAPEX__SECTION__KEY`, such as `SAPEX__LEARNER__BATCH_SIZE=128` |
| command line | `--set section.key=value`, repeatable, the last one wins; `sapex train` has short forms for the commonest |

Values are TOML; where one does not parse it is taken as a text, so that `--set cluster.env=Pendulum-v1` needs no
quotes. Durations are texts: `\"500ms\"`, `\"2s\"`, `\"1m 30s\"`.

`--print-config` shows every value with its origin, and stops. An unknown key is refused with the nearest valid name, a
renamed key with its new name, a value out of range with what would be valid; all name the origin. A program that refuses its settings has touched
nothing and exits with status 2. Relative paths start where the program was started, and are kept as absolute ones.

## When a run goes on

`--resume` starts from the run's own settings. These cannot change, and are refused by name with both values: everything in
`[cluster]`, `run.seed`, `learner.algorithm`, `learner.critics`, `learner.critic_network`, `learner.critic_hidden`,
`learner.critic_neurons`, `learner.critic_join`, `learner.init`, `learner.target_actor`, `bcq.vae_hidden`, `bcq.vae_latent`,
`bcq.phi`, `bcq.act_samples`. Everything else may change. What does is printed, logged, and written to `metrics.jsonl` as
records of kind `config`; `learner.alpha_init` and `lac.lambda_init` begin the multiplier there again. Nothing is written
before everything fits.
";

/// A `[section]` of a settings file, with the comment above it.
#[derive(Debug, Default)]
struct Section {
    name: String,
    about: String,
    entries: Vec<Entry>,
}

/// Consecutive keys with their values, and the comment above them.
#[derive(Debug, Default)]
struct Entry {
    keys: Vec<(String, String)>,
    about: String,
}

/// Writes the generated page.
///
/// # Errors
/// Returns an error if a default has no comment, or a file cannot be read or written.
pub(crate) fn write(root: &Path) -> Result<()> {
    fs::write(root.join(PAGE), configuration(root)?)?;
    Ok(())
}

/// Returns the text of the generated page.
///
/// # Errors
/// Returns an error if a default has no comment, or a file cannot be read.
pub(crate) fn configuration(root: &Path) -> Result<String> {
    let default = fs::read_to_string(root.join("config/default.toml"))?;
    let sections = parse(&default).context("config/default.toml")?;
    let mut page = String::from(HEAD);
    for section in &sections {
        section.check().context("config/default.toml")?;
        write!(page, "\n## [{}]\n\n", section.name)?;
        if !section.about.is_empty() {
            write!(page, "{}\n\n", section.about)?;
        }
        page.push_str("| key | default | meaning |\n|---|---|---|\n");
        for Entry { keys, about } in &section.entries {
            let (names, values): (Vec<_>, Vec<_>) = keys
                .iter()
                .map(|(name, value)| (format!("`{name}`"), format!("`{value}`")))
                .unzip();
            let (names, values) = (names.join(" "), values.join(" "));
            writeln!(page, "| {names} | {values} | {} |", about.replace('|', "\\|"))?;
        }
    }
    for path in tuned(root)? {
        let env = path.file_stem().unwrap_or_default().to_string_lossy();
        write!(page, "\n## Tuned for {env}\n\n| key | value |\n|---|---|\n")?;
        for Section { name: section, entries, .. } in parse(&fs::read_to_string(&path)?)? {
            for (name, value) in entries.into_iter().flat_map(|entry| entry.keys) {
                writeln!(page, "| `{section}.{name}` | `{value}` |")?;
            }
        }
    }
    Ok(page)
}

impl Section {
    fn check(&self) -> Result<()> {
        match self.entries.iter().find(|entry| entry.about.is_empty()) {
            Some(entry) => bail!("{}.{} has no comment", self.name, entry.keys[0].0),
            None => Ok(()),
        }
    }
}

fn tuned(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join("config/tuned"))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Parses the subset of TOML that our settings files use: comments, sections, and one key per line.
fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut comment, mut after_key) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        let followed_key = std::mem::take(&mut after_key);
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if line.is_empty() {
            comment.clear();
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let about = std::mem::take(&mut comment).join(" ");
            sections.push(Section { name: name.to_owned(), about, entries: Vec::new() });
        } else if let (Some((name, value)), Some(section)) =
            (line.split_once('='), sections.last_mut())
        {
            if !followed_key {
                let about = std::mem::take(&mut comment).join(" ");
                section.entries.push(Entry { about, keys: Vec::new() });
            }
            let key = (name.trim().to_owned(), value.trim().to_owned());
            section.entries.last_mut().expect("pushed for the first key").keys.push(key);
            after_key = true;
        } else {
            bail!("expected a comment, a [section] or key = value on one line, found: {line}");
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_row_share_a_comment_and_a_new_comment_replaces_it() {
        let sections =
            parse("# all\n[s]\n# two\n# lines\na = 1\nb = \"x\"\n# c's\nc = []\n").unwrap();
        assert_eq!((sections[0].name.as_str(), sections[0].about.as_str()), ("s", "all"));
        let entries = &sections[0].entries;
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].about.as_str(), entries[0].keys.len()), ("two lines", 2));
        assert_eq!((entries[1].about.as_str(), entries[1].keys.len()), ("c's", 1));
        assert!(sections[0].check().is_ok());
    }

    #[test]
    fn a_key_without_a_comment_is_named() {
        let sections = parse("# all\n[s]\n# one\na = 1\n\nb = 2\n").unwrap();
        assert_eq!(sections[0].check().unwrap_err().to_string(), "s.b has no comment");
        assert!(parse("a = 1\n").is_err(), "a key outside any section");
    }
}
