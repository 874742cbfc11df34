//! Suggestions for misspelled names: the nearest valid name, the same key in another section, or our key for a setting
//! that other libraries name differently. There is no suggestion if no name is similar.

/// Names of settings in Stable-Baselines3, CleanRL, Tianshou and Spinning Up, and our keys for them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("activation_fn", "cluster.activation"),
    ("actor_lr", "learner.lr_actor"),
    ("alpha", "learner.alpha_init"),
    ("alpha_lr", "learner.lr_alpha"),
    ("auto_alpha", "learner.alpha_auto"),
    ("autotune", "learner.alpha_auto"),
    ("buffer_size", "replay.capacity"),
    ("critic_lr", "learner.lr_critic"),
    ("discount", "cluster.gamma"),
    ("ent_coef", "learner.alpha_init or learner.alpha_auto"),
    ("env_id", "cluster.env"),
    ("estimation_step", "cluster.n_step"),
    ("eval_episodes", "evaluator.episodes"),
    ("eval_freq", "evaluator.interval"),
    ("gradient_steps", "replay.samples_per_insert"),
    ("hidden_sizes", "cluster.hidden or learner.critic_hidden"),
    ("learning_rate", "learner.lr_actor, learner.lr_critic or learner.lr_alpha"),
    ("learning_starts", "replay.min_size or actor.warmup_steps"),
    ("n_envs", "actor.num_envs or run.actors"),
    ("n_eval_episodes", "evaluator.episodes"),
    ("n_steps", "cluster.n_step"),
    ("net_arch", "cluster.hidden or learner.critic_hidden"),
    ("normalize_observations", "cluster.normalise_obs"),
    ("optimizer_class", "learner.adam_eps, learner.adam_beta1 or learner.adam_beta2"),
    ("policy", "cluster.network"),
    ("policy_kwargs", "cluster.hidden, learner.critic_hidden or cluster.activation"),
    ("policy_lr", "learner.lr_actor"),
    ("polyak", "learner.tau"),
    ("q_lr", "learner.lr_critic"),
    ("replay_size", "replay.capacity"),
    ("start_steps", "actor.warmup_steps"),
    ("stats_window_size", "learner.log_updates"),
    ("target_entropy", "learner.target_entropy_per_dim or learner.target_entropy_ratio"),
    ("target_network_frequency", "learner.target_updates"),
    ("target_update_interval", "learner.target_updates"),
    ("total_timesteps", "run.env_steps"),
    ("train_freq", "replay.samples_per_insert"),
    ("update_after", "replay.min_size"),
    ("update_every", "replay.samples_per_insert"),
    ("use_sde", "actor.exploration"),
    ("verbose", "telemetry.log_filter"),
];

/// Renamed keys, as (old name, new name). The old name is refused, and the error states the new name.
const RENAMED: &[(&str, &str)] = &[
    ("actor.lanes", "actor.num_envs"),
    ("learner.importance_beta", "learner.importance_sampling_exponent"),
    ("replay.priority_alpha", "replay.priority_exponent"),
];

/// Returns the new name of a key that was renamed.
pub(super) fn renamed(given: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(old, _)| *old == given).map(|(_, new)| *new)
}

/// Returns the valid `section.key` that is most similar to the given key, or `None` if no key is similar. If the most
/// similar name is one of another library, returns our key or a list of our keys for it.
pub(super) fn key<'a>(given: &str, valid: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
    let (section, asked) = (given.split('.').next().unwrap_or_default(), name(given));
    let ours = valid.map(|key| (name(key), key));
    let theirs = ELSEWHERE.iter().map(|(theirs, ours)| ((*theirs).to_owned(), *ours));
    ours.chain(theirs)
        .filter_map(|(name, key)| {
            let elsewhere = key.split('.').next() != Some(section);
            Some((distance(&asked, &name)?, elsewhere, key))
        })
        .min_by_key(|(distance, elsewhere, _)| (*distance, *elsewhere))
        .map(|(.., key)| key.to_owned())
}

/// Returns the valid name that is most similar to the given one, or `None` if no name is similar.
pub(super) fn name<'a>(given: &str, valid: impl Iterator<Item = &'a str>) -> Option<String> {
    valid
        .filter_map(|name| Some((distance(&given.to_lowercase(), name)?, name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}

/// Returns the edit distance between the two texts, or `None` if the distance is more than a third of the length of
/// `given`.
fn distance(given: &str, name: &str) -> Option<usize> {
    let letters = strsim::osa_distance(given, name);
    (letters <= given.chars().count() / 3).then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_TOML, Origin, load::flatten, load::parse};

    fn hint(given: &str) -> Option<String> {
        let table = parse(DEFAULT_TOML, &Origin::Default).unwrap();
        key(given, flatten(&table).keys().map(String::as_str))
    }

    #[test]
    fn a_key_is_looked_for_in_all_sections_and_among_the_names_of_other_libraries() {
        for (given, expected) in [
            ("learner.batchsize", "learner.batch_size"),
            ("learner.bacth_size", "learner.batch_size"),
            ("batch_size", "learner.batch_size"),
            ("lerner.tau", "learner.tau"),
            ("replay.batch_size", "learner.batch_size"),
            ("learner.gamma", "cluster.gamma"),
            ("learner.Hidden", "cluster.hidden"),
            ("learner.buffer_size", "replay.capacity"),
            ("learner.bufer_size", "replay.capacity"),
            ("learner.ent_coef", "learner.alpha_init or learner.alpha_auto"),
            ("total_timesteps", "run.env_steps"),
            ("learner.learning_starts", "replay.min_size or actor.warmup_steps"),
            ("run.train_freq", "replay.samples_per_insert"),
            ("learner.gradient_steps", "replay.samples_per_insert"),
            (
                "learner.policy_kwargs",
                "cluster.hidden, learner.critic_hidden or cluster.activation",
            ),
            ("learner.learning_rate", "learner.lr_actor, learner.lr_critic or learner.lr_alpha"),
        ] {
            assert_eq!(hint(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn where_nothing_is_near_nothing_is_said() {
        for given in ["zzz", "learner.zzz", "learner.colour", "a.b.c", "learner.", "", "x.wobble"] {
            assert_eq!(hint(given), None, "{given}");
        }
        assert_eq!(name("abc", ["sac", "bcq", "lac"].into_iter()), None);
        assert_eq!(name("velorra", ["sac", "velora"].into_iter()).as_deref(), Some("velora"));
    }

    #[test]
    fn every_key_that_a_foreign_or_an_old_name_leads_to_is_one_of_ours() {
        let table = parse(DEFAULT_TOML, &Origin::Default).unwrap();
        let ours = flatten(&table);
        for (old, new) in RENAMED {
            assert!(ours.contains_key(*new) && !ours.contains_key(*old), "{old}: {new}");
        }
        for (theirs, keys) in ELSEWHERE {
            for key in keys.split([',', ' ']).filter(|word| word.contains('.')) {
                assert!(ours.contains_key(key), "{theirs}: {key}");
            }
        }
    }
}
