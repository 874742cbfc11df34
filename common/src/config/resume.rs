//! Settings of a resumed run. The run's own settings are a layer of the configuration. Some of them cannot change.

use super::change::differences;
use super::error::{ConfigError, Origin};
use super::load::{Layers, flatten, unchecked};
use super::{Change, Resolved};
use std::path::Path;

/// Settings that cannot change when a run is resumed, each with the reason. A name that ends with a dot means the whole
/// section. All other settings may change.
pub const FIXED_KEYS: &[(&str, &str)] = &[
    ("cluster.", "rows, networks and processes of the run are made by it"),
    ("run.seed", "the generators in the checkpoint come from it"),
    ("learner.algorithm", NETWORKS),
    ("learner.critics", NETWORKS),
    ("learner.critic_network", NETWORKS),
    ("learner.critic_hidden", NETWORKS),
    ("learner.critic_neurons", NETWORKS),
    ("learner.critic_join", NETWORKS),
    ("learner.init", "the parameters were drawn by it"),
    ("learner.target_actor", "the checkpoint holds a copy of the policy, or none"),
    ("bcq.vae_hidden", NETWORKS),
    ("bcq.vae_latent", NETWORKS),
    ("bcq.phi", NETWORKS),
    ("bcq.act_samples", NETWORKS),
];

const NETWORKS: &str = "the networks in the checkpoint are made by it";

impl Resolved {
    /// Returns the settings that differ between the run directory (old value) and this configuration (new value),
    /// sorted by key.
    ///
    /// # Errors
    /// Returns an error if the run's settings cannot be read. Also returns an error if one of [`FIXED_KEYS`] differs;
    /// the message names both values.
    pub fn changes_of_run(&self, run_dir: &Path) -> Result<Vec<Change>, ConfigError> {
        let run = Layers { run: Some(run_dir.to_owned()), ..Layers::default() };
        let changes = differences(&flatten(&unchecked(&run)?.table()), &flatten(&self.table()));
        for Change { key, old, .. } in &changes {
            let fixed = FIXED_KEYS
                .iter()
                .find(|(name, _)| key == name || (name.ends_with('.') && key.starts_with(name)));
            if let Some((_, why)) = fixed {
                let origin = Origin::Run(run_dir.to_owned());
                let expected =
                    format!("{origin} has {old}, and this cannot change on resume: {why}");
                return Err(self.invalid(key, expected));
            }
        }
        Ok(changes)
    }
}
