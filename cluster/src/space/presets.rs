//! The search spaces of a preset, and the settings that follow from their configurations.
//!
//! Only ARLBench's SAC has spaces (docs/algorithms/arlbench.md §5). Some parameters have a slightly different meaning
//! here, because actors and learner run concurrently:
//!
//! | parameters | settings |
//! |---|---|
//! | `gradient_steps`, `train_freq`, `buffer_batch_size` | `replay.samples_per_insert`, as below |
//! | `learning_starts` | `replay.min_size`, at least one batch and at most the buffer size |
//! | `target_update_interval` (environment steps) | `learner.target_updates` (updates), as below |
//! | `use_target_network` = false | `learner.tau` = 1, `learner.target_updates` = 1: targets equal the critics |
//! | `learning_rate` | the learning rates of policy, critics and temperature |
//!
//! There are `gradient_steps` / `train_freq` updates per environment step, evenly spread. This ratio times
//! `buffer_batch_size` is `replay.samples_per_insert`. The same ratio converts `target_update_interval` from
//! environment steps to updates.

use super::{ChosenValues, Condition, Domain, Parameter, SearchSpace, SpaceError, equal};
use serde_json::{Value, json};

/// Name of the preset that has spaces.
pub const PRESET: &str = "arlbench";

/// Kind of search space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Space of the hyper-parameters.
    Hpo,
    /// Space of the network architectures.
    Nas,
}

/// Returns the space of a kind.
pub fn space(kind: Kind) -> SearchSpace {
    let name = match kind {
        Kind::Hpo => "SACConfigSpace",
        Kind::Nas => "SACNASConfigSpace",
    };
    let (parameters, conditions) = match kind {
        Kind::Hpo => (hyper_parameters(), vec!["target_update_interval", "tau"]),
        Kind::Nas => (networks(), Vec::new()),
    };
    let conditions = conditions.into_iter().map(|child| Condition {
        child: child.to_owned(),
        parent: "use_target_network".to_owned(),
        value: json!(true),
    });
    SearchSpace { name: name.to_owned(), conditions: conditions.collect(), parameters }
}

/// Returns the hyper-parameters, in the order of the library's own document.
fn hyper_parameters() -> Vec<Parameter> {
    let (linear, log) = (false, true);
    vec![
        float("alpha", (0.0, 1.0), 1.0, linear),
        choice("alpha_auto", json!([true, false]), json!(true)),
        float("buffer_alpha", (0.01, 1.0), 0.9, linear),
        choice("buffer_batch_size", json!([64, 128, 256, 512]), json!(256)),
        float("buffer_beta", (0.01, 1.0), 0.9, linear),
        float("buffer_epsilon", (1e-7, 0.01), 1e-3, linear),
        choice("buffer_prio_sampling", json!([true, false]), json!(false)),
        int("buffer_size", (1, 10_000_000), 1_000_000),
        float("gamma", (0.8, 1.0), 0.99, linear),
        int("gradient_steps", (1, 100_000), 1),
        float("learning_rate", (1e-6, 0.1), 3e-4, log),
        int("learning_starts", (0, 1024), 128),
        choice("normalize_observations", json!([true, false]), json!(false)),
        int("train_freq", (1, 128), 1),
        choice("use_target_network", json!([true, false]), json!(true)),
        int("target_update_interval", (1, 1000), 1000),
        float("tau", (0.01, 1.0), 1.0, linear),
    ]
}

fn networks() -> Vec<Parameter> {
    vec![
        choice("activation", json!(["tanh", "relu"]), json!("tanh")),
        int("hidden_size", (1, 1024), 256),
    ]
}

fn float(name: &str, (lower, upper): (f64, f64), default: f64, log: bool) -> Parameter {
    Parameter { name: name.to_owned(), domain: Domain::Float { lower, upper, default, log } }
}

fn int(name: &str, (lower, upper): (i64, i64), default: i64) -> Parameter {
    Parameter { name: name.to_owned(), domain: Domain::Int { lower, upper, default, log: false } }
}

fn choice(name: &str, choices: Value, default: Value) -> Parameter {
    let choices = choices.as_array().cloned().unwrap_or_default();
    Parameter { name: name.to_owned(), domain: Domain::Categorical { choices, default } }
}

/// Returns the settings (`section.key=value`) for a configuration of the hyper-parameter space, the network space or
/// both. If a value of a space is given, all active parameters of that space need a value. If `values` is empty, an
/// error names the first missing hyper-parameter.
///
/// # Errors
/// Returns an error if a value lies outside its space. Some combinations inside the space are also errors, because no
/// run can start with them: an initial temperature of 0 that is tuned, or a buffer smaller than a batch.
pub fn settings(values: &ChosenValues) -> Result<Vec<String>, SpaceError> {
    let (hpo, nas) = (space(Kind::Hpo), space(Kind::Nas));
    let (of_nas, of_hpo): (ChosenValues, ChosenValues) =
        values.clone().into_iter().partition(|(name, _)| nas.parameter(name).is_some());
    let mut settings = Vec::new();
    if !of_hpo.is_empty() || of_nas.is_empty() {
        hpo.check(&of_hpo)?;
        settings.extend(hyper_parameter_settings(&of_hpo)?);
    }
    if !of_nas.is_empty() {
        nas.check(&of_nas)?;
        let hidden = &of_nas["hidden_size"];
        settings.push(format!("cluster.activation={}", of_nas["activation"]));
        settings.push(format!("cluster.hidden=[{hidden}, {hidden}]"));
        settings.push(format!("learner.critic_hidden=[{hidden}, {hidden}]"));
    }
    Ok(settings)
}

/// Converts a number that was already checked to be whole. A choice of 256 may be written as 256.0.
fn whole_number(value: &Value) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "bounds of the space are far below 2^53")]
    let rounded = || value.as_f64().map(|value| value as i64);
    value.as_i64().or_else(rounded).expect("a number where one was checked")
}

/// Returns the settings for hyper-parameters that were already checked: all values have the right type, and only
/// parameters whose condition is not met are absent.
fn hyper_parameter_settings(values: &ChosenValues) -> Result<Vec<String>, SpaceError> {
    let whole = |name: &str| values.get(name).map_or(1, whole_number);
    let set = |name: &str| equal(&values[name], &json!(true));
    let refuse = |name: &str, expected: String| {
        let (name, value) = (name.to_owned(), values[name].clone());
        Err(SpaceError::Range { name, value, expected })
    };
    if set("alpha_auto") && equal(&values["alpha"], &json!(0)) {
        return refuse("alpha", "above 0 where alpha_auto = true".to_owned());
    }
    let (batch, size) = (whole("buffer_batch_size"), whole("buffer_size"));
    if size < batch {
        return refuse("buffer_size", format!("at least buffer_batch_size = {batch}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "bounds of the space are far below 2^53")]
    let updates_per_step = whole("gradient_steps") as f64 / whole("train_freq") as f64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let (samples, interval) = (
        updates_per_step * batch as f64,
        updates_per_step * whole("target_update_interval") as f64,
    );
    let (tau, target_updates) = if set("use_target_network") {
        (values["tau"].clone(), interval.round().max(1.0))
    } else {
        (json!(1.0), 1.0)
    };
    let selector = if set("buffer_prio_sampling") { "prioritized" } else { "uniform" };
    let starts = whole("learning_starts").max(batch).min(size);
    let value = |name: &str| values[name].to_string();
    let rate = value("learning_rate");
    Ok([
        ("cluster.gamma", value("gamma")),
        ("cluster.normalise_obs", value("normalize_observations")),
        ("replay.capacity", size.to_string()),
        ("replay.selector", format!("\"{selector}\"")),
        ("replay.priority_exponent", value("buffer_alpha")),
        ("replay.priority_epsilon", value("buffer_epsilon")),
        ("replay.min_size", starts.to_string()),
        ("replay.samples_per_insert", format!("{samples:?}")),
        ("learner.batch_size", batch.to_string()),
        ("learner.lr_actor", rate.clone()),
        ("learner.lr_critic", rate.clone()),
        ("learner.lr_alpha", rate),
        ("learner.tau", tau.to_string()),
        ("learner.target_updates", format!("{target_updates:.0}")),
        ("learner.alpha_auto", value("alpha_auto")),
        ("learner.alpha_init", value("alpha")),
        ("learner.importance_sampling_exponent", value("buffer_beta")),
    ]
    .map(|(key, value)| format!("{key}={value}"))
    .into())
}
