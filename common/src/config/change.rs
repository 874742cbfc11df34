//! Settings that may change while a learner trains. [`Resolved::changed`] applies changes to a checked configuration.

use super::error::{ConfigError, Origin, unknown};
use super::load::{coerce, deserialise, flatten, parse};
use super::{Resolved, validate};
use serde::Serialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Keys that may change while training: step sizes, rates and switches. None of them determines the networks, the
/// shapes of batches or the state that an algorithm keeps.
pub const LIVE_KEYS: &[&str] = &[
    "learner.lr_actor",
    "learner.lr_critic",
    "learner.lr_alpha",
    "learner.lr_schedule",
    "learner.lr_schedule_steps",
    "learner.lr_schedule_updates",
    "learner.lr_actor_final",
    "learner.lr_critic_final",
    "learner.lr_alpha_final",
    "learner.adam_eps",
    "learner.adam_beta1",
    "learner.adam_beta2",
    "learner.tau",
    "learner.target_updates",
    "learner.critic_reduce",
    "learner.tanh_correction",
    "learner.discrete_loss",
    "learner.stored_state",
    "learner.weights_in_actor_loss",
    "learner.priority_rule",
    "learner.normaliser_frozen",
    "learner.alpha_auto",
    "learner.alpha_min",
    "learner.alpha_max",
    "learner.target_entropy_per_dim",
    "learner.target_entropy_ratio",
    "learner.alpha_loss",
    "learner.critic_loss_factor",
    "learner.critic_action_units",
    "learner.log_prob_units",
    "learner.importance_sampling_exponent",
    "learner.on_divergence",
    "lac.alpha3",
    "lac.lr_lambda",
    "lac.lr_lambda_final",
    "lac.lambda_clamp",
    "lac.decrease",
    "lac.cost",
    "lac.reward_max",
    "bcq.lr_vae",
    "bcq.lr_vae_final",
    "bcq.lambda",
    "bcq.target_perturb",
];

/// A setting whose value has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// Value before the change.
    pub old: Value,
    /// Value after the change.
    pub new: Value,
}

impl Resolved {
    /// Applies the settings in `text` (TOML or a JSON object) to this configuration. Returns the new configuration and
    /// the changes, sorted by key. A setting that keeps its value is no change, so `text` may be a complete
    /// configuration file.
    ///
    /// # Errors
    /// Returns the errors of [`super::load()`]. Also returns an error if a key cannot change while training; the
    /// message lists the keys that can change.
    pub fn changed(&self, text: &str, origin: &Origin) -> Result<(Self, Vec<Change>), ConfigError> {
        let old = flatten(&self.table());
        let (mut values, mut origins) = (old.clone(), self.origins.clone());
        for (key, value) in flatten(&read(text, origin)?) {
            let Some(current) = old.get(&key) else {
                return Err(unknown(key, origin.clone(), old.keys()));
            };
            let value = coerce(&key, value, current, origin)?;
            if value != *current {
                values.insert(key.clone(), value);
                origins.insert(key, origin.clone());
            }
        }
        let config = deserialise(&values, &origins)?;
        let mut resolved = Self { config, origins };
        let changes = differences(&old, &flatten(&resolved.table()));
        for Change { key, .. } in &changes {
            if !LIVE_KEYS.contains(&key.as_str()) {
                let expected =
                    format!("cannot change while training; these can: {}", LIVE_KEYS.join(" "));
                return Err(resolved.invalid(key, expected));
            }
        }
        validate::check(&resolved)?;
        // A number with other digits may round to the same f32. Such a number has not changed and keeps its old origin.
        let changed = |key: &String| changes.iter().any(|change| change.key == *key);
        for (key, origin) in &mut resolved.origins {
            if !changed(key) {
                origin.clone_from(&self.origins[key]);
            }
        }
        Ok((resolved, changes))
    }
}

/// Parses the text as JSON if it begins with `{`, otherwise as TOML. No TOML text begins with `{`.
fn read(text: &str, origin: &Origin) -> Result<Table, ConfigError> {
    if !text.trim_start().starts_with('{') {
        return parse(text, origin);
    }
    serde_json::from_str(text).map_err(|error| ConfigError::Syntax {
        origin: origin.clone(),
        language: "JSON",
        message: error.to_string(),
    })
}

pub(super) fn differences(
    old: &BTreeMap<String, Value>,
    new: &BTreeMap<String, Value>,
) -> Vec<Change> {
    let pairs = old.iter().filter_map(|(key, old)| Some((key, old, new.get(key)?)));
    let differ = pairs.filter(|(_, old, new)| old != new);
    differ
        .map(|(key, old, new)| Change { key: key.clone(), old: old.clone(), new: new.clone() })
        .collect()
}
