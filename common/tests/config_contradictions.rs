//! Settings that cannot work together, or on this machine, are refused before a run begins. The error names both values
//! and what would work.

use common::config::{Layers, Resolved, load};
use common::runtime::memory::MemoryBound;

fn with_set(assignments: &[&str]) -> Result<Resolved, String> {
    let set = assignments.iter().map(ToString::to_string).collect();
    load(&Layers { set, ..Layers::default() }).map_err(|error| error.to_string())
}

/// Asserts that the settings are refused, and that the error begins with `key` and contains all texts of `said`.
fn refused(assignments: &[&str], key: &str, said: &[&str]) {
    let text = with_set(assignments).map(|_| "accepted".to_owned()).unwrap_or_else(|text| text);
    assert!(text.starts_with(key), "{assignments:?}: {text}");
    for said in said {
        assert!(text.contains(said), "{assignments:?}: {text} does not say {said}");
    }
}

#[test]
fn a_run_that_ends_before_its_first_update_is_refused() {
    let key = "run.env_steps = ";
    let few = ["run.env_steps=600", "replay.min_size=700"];
    refused(&few, key, &["must be at least 700", "replay.min_size = 700"]);
    with_set(&["run.env_steps=700", "replay.min_size=700"]).unwrap();
    with_set(&["run.env_steps=0"]).unwrap();
    // A run on recorded data takes no environment steps.
    with_set(&["run.env_steps=10", "offline.dataset=d"]).unwrap();
}

#[test]
fn a_run_that_ends_before_its_policy_acts_is_refused_unless_it_records() {
    let short = ["run.env_steps=3000", "run.actors=3", "actor.warmup_steps=1000"];
    let said = ["must be above 3000", "actor.warmup_steps = 1000", "run.actors = 3"];
    refused(&short, "run.env_steps = 3000 (from --set)", &said);
    with_set(&[&short[..], &["actor.record=random"]].concat()).unwrap();
}

#[test]
fn step_sizes_that_overwrite_the_weights_are_refused() {
    for key in
        ["learner.lr_actor", "learner.lr_critic", "learner.lr_alpha", "lac.lr_lambda", "bcq.lr_vae"]
    {
        let shown = format!("{key} = 3.0 (from --set)");
        refused(&[&format!("{key}=3")], &shown, &["must be above 0 and at most 0.1"]);
        with_set(&[&format!("{key}=0.1")]).unwrap();
    }
}

#[test]
fn numbers_that_no_update_survives_are_refused() {
    for (assignment, said) in [
        ("learner.adam_eps=2", "must be above 0 and at most 1"),
        ("learner.critic_loss_factor=1e30", "must be above 0 and at most 1000"),
        ("learner.target_entropy_per_dim=1e30", "must be in [-1000, 1000]"),
        ("lac.reward_max=1e21", "must be in [-1e6, 1e6]"),
        ("lac.alpha3=1e30", "must be in [0, 1000]"),
        ("actor.exploration_sigma=1e30", "must be in [0, 10]"),
        ("cluster.mean_bound=1e30", "must be 0 (no bound) to 1000"),
        ("cluster.reward_scale=1e30", "at most 1e6"),
        (
            "learner.alpha_init=2000",
            "must be at least learner.alpha_min = 0 and at most learner.alpha_max = 1000",
        ),
        ("learner.alpha_min=-1", "must be 0 (no bound) to learner.alpha_max = 1000"),
        ("learner.alpha_min=2000", "must be 0 (no bound) to learner.alpha_max = 1000"),
        ("learner.alpha_min=nan", "must be 0 (no bound) to learner.alpha_max = 1000"),
        ("learner.alpha_max=0", "must be above 0, or inf for none"),
        ("replay.sync_interval=9ms", "must be 10ms to 1m"),
        ("replay.sync_interval=61s", "must be 10ms to 1m"),
    ] {
        let key = assignment.split('=').next().unwrap_or_default();
        refused(&[assignment], key, &[said]);
    }
    // The default of alpha_init, 1, lies below this bound.
    refused(&["learner.alpha_min=2"], "learner.alpha_init", &["learner.alpha_min = 2"]);
}

#[test]
fn noise_that_grows_without_end_is_refused_with_both_values() {
    let set = ["actor.exploration=ou", "actor.ou_theta=5", "actor.ou_dt=0.5"];
    refused(&set, "actor.ou_dt = 0.5", &["actor.ou_theta = 5", "at most 0.4"]);
}

#[test]
fn actors_that_would_stop_between_two_publications_are_refused() {
    refused(
        &["actor.policy_age_max=500ms"],
        "actor.policy_age_max = \"500ms\"",
        &["0s or at least 2s"],
    );
    with_set(&["actor.policy_age_max=2s"]).unwrap();
}

#[test]
fn a_replay_larger_than_memory_is_refused_with_what_fits() {
    let resolved = with_set(&["replay.capacity=100000000", "replay.shards=2"]).unwrap();
    let bound = |bytes| Some(MemoryBound { bytes, source: "this machine's memory" });
    // Bytes of a row, plus 10 bytes for its priority and 4 for the number of its actor.
    let row = resolved.config.item_layout(&resolved.env_spec().unwrap()).row_bytes as u64 + 14;
    let text = resolved.replay_fits(2, bound(4 << 30)).unwrap_err().to_string();
    assert!(text.starts_with("replay.capacity = 100000000 (from --set): needs "), "{text}");
    let fits = (4_u64 << 30) / row / 2 * 2;
    assert!(text.contains("this machine's memory is 4.0 GiB"), "{text}");
    assert!(text.ends_with(&format!("at most {fits} rows fit")), "{text}");
    let smaller = with_set(&[&format!("replay.capacity={fits}"), "replay.shards=2"]).unwrap();
    smaller.replay_fits(2, bound(4 << 30)).unwrap();
    resolved.replay_fits(2, bound(1 << 40)).unwrap();
    resolved.replay_fits(2, None).unwrap();
}

#[test]
fn tuned_settings_hold_for_gymnasiums_own_environment_of_that_name() {
    let gym = with_set(&["cluster.env=gym:CartPole-v1"]).unwrap();
    let own = with_set(&["cluster.env=CartPole-v1"]).unwrap();
    assert_eq!(gym.config.learner, own.config.learner);
    assert_eq!(gym.config.run, own.config.run);
    assert!(gym.render().contains("batch_size = 128 # tuned for CartPole-v1"), "{}", gym.render());
}

#[test]
fn certificates_are_set_together_or_not_at_all_and_the_missing_one_is_named() {
    let all = ["tls.ca=/c/ca.crt", "tls.cert=/c/tls.crt", "tls.key=/c/tls.key"];
    for (left_out, key) in ["tls.ca", "tls.cert", "tls.key"].into_iter().enumerate() {
        let mut some = all.to_vec();
        some.remove(left_out);
        refused(&some, &format!("{key} = \"\""), &["tls.ca, tls.cert and tls.key"]);
    }
    assert!(with_set(&all).unwrap().config.tls.is_on());
    assert!(!with_set(&[]).unwrap().config.tls.is_on());
}
