//! [`TrainingConfig`]: the settings that the computation of an update uses.
//!
//! In TOML they are in the section `[learner]`, together with the settings of [`LearnerConfig`](super::LearnerConfig),
//! so that a user edits one section. In Rust they are a separate struct, which is a field of
//! `learner::trainer::TrainerConfig`. To add a setting, add a key to `config/default.toml`, a field here, and the code
//! that uses it (CONTRIBUTING.md).

use super::{
    ActionUnits, AlphaLoss, Config, DiscreteLoss, Init, LrSchedule, PriorityRule, Reduce,
    StoredState, TargetActor,
};
use crate::policy::squash::TanhCorrection;
use serde::{Deserialize, Serialize};
use toml::Table;

/// TOML section that contains the settings.
const SECTION: &str = "learner";
/// Name of the field of [`Config`] that contains the settings.
const FIELD: &str = "training";

/// Settings of an update. Real numbers are f64, so that they keep the digits that the user wrote. A backend converts a
/// number to its own type when it uses the number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "config/default.toml documents the keys, once")]
pub struct TrainingConfig {
    pub batch_size: usize,
    pub critics: usize,
    pub init: Init,
    pub lr_actor: f64,
    pub lr_critic: f64,
    pub lr_alpha: f64,
    pub lr_schedule: LrSchedule,
    pub lr_schedule_steps: u64,
    pub lr_schedule_updates: u64,
    pub lr_actor_final: f64,
    pub lr_critic_final: f64,
    pub lr_alpha_final: f64,
    pub adam_eps: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub tau: f64,
    pub target_updates: u64,
    pub target_actor: TargetActor,
    pub critic_reduce: Reduce,
    pub tanh_correction: TanhCorrection,
    pub discrete_loss: DiscreteLoss,
    pub stored_state: StoredState,
    pub weights_in_actor_loss: bool,
    pub priority_rule: PriorityRule,
    pub normaliser_frozen: bool,
    pub alpha_auto: bool,
    pub alpha_init: f64,
    pub alpha_min: f64,
    pub alpha_max: f64,
    pub target_entropy_per_dim: f64,
    pub target_entropy_ratio: f64,
    pub alpha_loss: AlphaLoss,
    pub critic_loss_factor: f64,
    pub critic_action_units: ActionUnits,
    pub log_prob_units: ActionUnits,
}

impl Default for TrainingConfig {
    /// Returns the settings of `config/default.toml`.
    fn default() -> Self {
        Config::default().training
    }
}

/// Copies the section `[learner]` to a second table named `training`, from which [`Config::training`] is read.
pub(super) fn split(table: &mut Table) {
    if let Some(section) = table.get(SECTION).cloned() {
        table.insert(FIELD.to_owned(), section);
    }
}

/// Moves the settings from the table `training` back to the section `[learner]`. This reverses [`split`].
pub(super) fn join(table: &mut Table) {
    let training = table.remove(FIELD).and_then(|section| section.as_table().cloned());
    let section = table.get_mut(SECTION).and_then(|section| section.as_table_mut());
    if let (Some(section), Some(training)) = (section, training) {
        section.extend(training);
    }
}

/// Converts a key of [`Config`] to the key in the user's files: `training.tau` to `learner.tau`.
pub(super) fn public_key(key: &str) -> String {
    match key.strip_prefix(FIELD).filter(|rest| rest.starts_with('.')) {
        Some(rest) => format!("{SECTION}{rest}"),
        None => key.to_owned(),
    }
}
