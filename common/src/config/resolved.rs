//! [`Resolved`]: a checked configuration. Its methods return the environment's shapes and the configuration as text.

use super::error::{ConfigError, Origin};
use super::{ActionUnits, Config, training};
use crate::spec::{ActionKind, EnvSpec};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A checked configuration with the origin of every value.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// All settings.
    pub config: Config,
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Resolved {
    /// Returns the configured shapes and bounds of the environment. A process without environments has no other source
    /// for them.
    ///
    /// # Errors
    /// Returns an error if the shapes are not set or contradict each other.
    pub fn env_spec(&self) -> Result<EnvSpec, ConfigError> {
        let cluster = &self.config.cluster;
        if cluster.obs_dim == 0 || cluster.act_dim == 0 {
            let key = if cluster.obs_dim == 0 { "cluster.obs_dim" } else { "cluster.act_dim" };
            let expected = format!(
                "must be set: shapes are known by name of native environments only, without options that change them; \
                 `sapex envs {} --write FILE` writes these, for a further --config FILE",
                cluster.env
            );
            return Err(self.invalid(key, expected));
        }
        let bounds = match cluster.actions {
            ActionKind::Continuous => cluster.act_dim,
            ActionKind::Discrete => 0,
        };
        for (key, values) in [
            ("cluster.action_low", &cluster.action_low),
            ("cluster.action_high", &cluster.action_high),
        ] {
            if values.len() != bounds {
                let kind = cluster.actions;
                let expected = format!("must be {bounds} finite numbers for {kind:?} actions");
                return Err(self.invalid(key, expected));
            }
        }
        self.check_action_box()?;
        let obs_image = match cluster.obs_image[..] {
            [] => None,
            [c, h, w] if c.saturating_mul(h).saturating_mul(w) == cluster.obs_dim => {
                Some([c, h, w])
            }
            _ => {
                let expected = format!(
                    "must be empty or [channels, height, width] with cluster.obs_dim = {} numbers",
                    cluster.obs_dim
                );
                return Err(self.invalid("cluster.obs_image", expected));
            }
        };
        Ok(EnvSpec {
            id: cluster.env.clone(),
            obs_dim: cluster.obs_dim,
            obs_image,
            actions: cluster.actions,
            act_dim: cluster.act_dim,
            action_low: cluster.action_low.clone(),
            action_high: cluster.action_high.clone(),
            episode_steps_max: None,
        })
    }

    /// Checks that the bounds of the actions form a box. If log-probabilities are in environment units, also checks
    /// that no side of the box has width 0, because the density would not exist.
    fn check_action_box(&self) -> Result<(), ConfigError> {
        let (low, high) = (&self.config.cluster.action_low, &self.config.cluster.action_high);
        if let Some(wrong) = EnvSpec::wrong_bounds(low, high) {
            let expected = format!("must be a box with cluster.action_high: {wrong}");
            return Err(self.invalid("cluster.action_low", expected));
        }
        let flat = low.iter().zip(high).position(|(low, high)| low == high);
        match flat.filter(|_| self.config.training.log_prob_units == ActionUnits::Env) {
            None => Ok(()),
            Some(index) => Err(self.invalid(
                "learner.log_prob_units",
                format!(
                    "must be normalised: dimension {index} of the action box is [{}, {}], and what has no width has no \
                     density",
                    low[index], high[index]
                ),
            )),
        }
    }

    /// Returns an error about one key, with the key's value and origin. Programs use it for checks that need more than
    /// the configuration, for example whether the environment exists or the port is free.
    pub fn invalid(&self, key: &str, expected: impl Into<String>) -> ConfigError {
        let value = self.value(key).map_or_else(|| "(unset)".to_owned(), |value| value.to_string());
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        ConfigError::Invalid { key: key.to_owned(), value, origin, expected: expected.into() }
    }

    /// Returns every setting that the user set in a section, as (key, value). The key does not contain the section's
    /// name.
    pub fn given(&self, section: &str) -> Vec<(String, Value)> {
        let is_given = |key: &str| {
            let origin = self.origins.get(&format!("{section}.{key}"));
            matches!(
                origin,
                Some(Origin::File(_) | Origin::Env(_) | Origin::Option(_) | Origin::Set)
            )
        };
        let table = self.table();
        let keys = table.get(section).and_then(Value::as_table).into_iter().flatten();
        let given = keys.filter(|(key, _)| is_given(key));
        given.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Returns the configuration as TOML, with the origin of each value as a comment. `--print-config` prints it.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (section, value) in self.table() {
            text.push_str(&format!("[{section}]\n"));
            let keys = value.as_table().expect("every top-level entry of Config is a section");
            for (key, value) in keys {
                let origin = &self.origins[&format!("{section}.{key}")];
                text.push_str(&format!("{key} = {value} # {origin}\n"));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len() + 1);
        text
    }

    /// Returns the configuration as TOML without comments. This text is stored in the run directory.
    pub fn to_toml(&self) -> String {
        self.table().to_string()
    }

    pub(super) fn value(&self, key: &str) -> Option<Value> {
        let (section, key) = key.split_once('.')?;
        self.table().get(section)?.get(key).cloned()
    }

    /// Returns all sections as TOML. An f32 is written with the fewest digits possible: 0.001, not
    /// 0.0010000000474974513.
    pub(super) fn table(&self) -> Table {
        let mut table =
            Table::try_from(&self.config).expect("a struct of plain values serialises to TOML");
        training::join(&mut table);
        for value in table.iter_mut().filter_map(|(_, section)| section.as_table_mut()) {
            value.iter_mut().for_each(|(_, value)| shorten(value));
        }
        table
    }
}

/// Replaces each number that equals an f32 by the number with the fewest digits that rounds to this f32.
fn shorten(value: &mut Value) {
    match value {
        Value::Float(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "only what survives it is used")]
            let single = *number as f32;
            if f64::from(single) == *number {
                *number = single.to_string().parse().expect("digits of a number");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        _ => {}
    }
}
