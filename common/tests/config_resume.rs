//! Settings of a resumed run: its own settings are the starting point, forbidden changes are refused, and other changes
//! are listed.

use common::config::{FIXED_KEYS, Layers, Resolved, load};
use std::path::Path;

/// Creates a run directory with these settings.
fn run(assignments: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let set = assignments.iter().map(ToString::to_string).collect();
    let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
    std::fs::write(dir.path().join("config.toml"), resolved.to_toml()).unwrap();
    dir
}

fn layers(run: &Path, assignments: &[&str]) -> Layers {
    let set = assignments.iter().map(ToString::to_string).collect();
    Layers { run: Some(run.to_owned()), set, ..Layers::default() }
}

fn resumed(run: &Path, assignments: &[&str]) -> Resolved {
    load(&layers(run, assignments)).unwrap()
}

#[test]
fn a_run_goes_on_with_its_own_settings_below_those_that_are_given() {
    let dir = run(&["cluster.gamma=0.9", "learner.batch_size=64", "learner.tau=0.01"]);
    let resolved = resumed(dir.path(), &["learner.tau=0.02"]);
    assert_eq!((resolved.config.cluster.gamma, resolved.config.training.batch_size), (0.9, 64));
    let shown = resolved.render();
    assert!(shown.contains(&format!("gamma = 0.9 # run {}", dir.path().display())), "{shown}");
    assert!(shown.contains("tau = 0.02 # --set"), "{shown}");
    let changes = resolved.changes_of_run(dir.path()).unwrap();
    let said: Vec<_> = changes.iter().map(|c| format!("{} {} {}", c.key, c.old, c.new)).collect();
    assert_eq!(said, ["learner.tau 0.01 0.02"]);
    assert_eq!(resumed(dir.path(), &[]).changes_of_run(dir.path()).unwrap(), []);
}

#[test]
fn what_cannot_change_is_refused_by_name_with_both_values() {
    let dir = run(&["cluster.gamma=0.9"]);
    for (change, old) in [
        ("cluster.gamma=0.99", "0.9"),
        ("cluster.n_step=3", "1"),
        ("cluster.hidden=[32, 32]", "[64, 64]"),
        ("cluster.env_params=[\"g=9.0\"]", "[]"),
        ("run.seed=4", "0"),
        ("learner.critic_hidden=[32]", "[64, 64]"),
        ("learner.init=orthogonal", "\"pytorch\""),
        ("learner.target_actor=copy", "\"current\""),
    ] {
        let (key, new) = change.split_once('=').unwrap();
        let error = resumed(dir.path(), &[change]).changes_of_run(dir.path());
        let error = error.unwrap_err().to_string();
        let new =
            if new.starts_with(char::is_alphabetic) { format!("{new:?}") } else { new.into() };
        assert!(error.starts_with(&format!("{key} = {new} (from --set): run ")), "{error}");
        assert!(error.contains(&format!(" has {old}, and this cannot change")), "{error}");
    }
}

#[test]
fn a_preset_is_no_starting_point_for_what_has_started() {
    let dir = run(&[]);
    let preset = Some("sac".to_owned());
    let error = load(&Layers { preset, ..layers(dir.path(), &[]) }).unwrap_err().to_string();
    assert!(error.starts_with("--preset sac: a run that goes on has its settings"), "{error}");
}

#[test]
fn relative_paths_are_kept_as_absolute_ones_and_names_of_programs_as_names() {
    let here = std::env::current_dir().unwrap();
    for (python, kept) in [
        ("venv/bin/python", here.join("venv/bin/python").display().to_string()),
        ("./python", here.join("python").display().to_string()),
        ("/usr/bin/python3", "/usr/bin/python3".to_owned()),
        ("python3.11", "python3.11".to_owned()),
    ] {
        let dir = run(&[&format!("actor.python={python}"), "actor.record=rows"]);
        let actor = resumed(dir.path(), &[]).config.actor;
        assert_eq!((actor.python, actor.record), (kept, here.join("rows").display().to_string()));
    }
    assert_eq!(load(&Layers::default()).unwrap().config.actor.record, "");
}

#[test]
fn every_fixed_key_exists_and_is_documented() {
    let resolved = load(&Layers::default()).unwrap();
    let page = include_str!("../../docs/configuration.md");
    for (key, _) in FIXED_KEYS {
        if !key.ends_with('.') {
            let shown = resolved.invalid(key, "").to_string();
            assert!(!shown.contains("(unset)"), "{shown}");
        }
        let named = if let Some(section) = key.strip_suffix('.') {
            format!("`[{section}]`")
        } else {
            format!("`{key}`")
        };
        assert!(page.contains(&named), "{named} is missing in docs/configuration.md");
    }
}
