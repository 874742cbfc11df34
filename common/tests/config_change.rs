//! Changes of settings while a learner trains: by request, by a watched file, and refused ones.

use common::config::{
    ApplyError, ConfigPort, LIVE_KEYS, Layers, Origin, Resolved, load, watch::follow,
};
use serde_json::json;

fn resolved(assignments: &[&str]) -> Resolved {
    let set = assignments.iter().map(ToString::to_string).collect();
    load(&Layers { set, ..Layers::default() }).unwrap()
}

fn refusal(text: &str) -> String {
    resolved(&[]).changed(text, &Origin::Admin).unwrap_err().to_string()
}

#[test]
fn every_live_key_exists() {
    let resolved = resolved(&[]);
    for key in LIVE_KEYS {
        let shown = resolved.invalid(key, "").to_string();
        assert!(!shown.contains("(unset)"), "{shown}");
    }
}

#[test]
fn toml_and_json_change_the_same_and_say_what() {
    let before = resolved(&[]);
    let toml = "[learner]\ntau = 0.01\nlr_actor = 0.001\nalpha_auto = false\n";
    let json = r#"{"learner": {"tau": 0.01, "lr_actor": 0.001, "alpha_auto": false}}"#;
    let dotted = r#"{"learner.tau": 0.01, "learner.lr_actor": 1e-3, "learner.alpha_auto": false}"#;
    for text in [toml, json, dotted] {
        let (after, changes) = before.changed(text, &Origin::Admin).unwrap();
        // The new value of lr_actor equals the old one, so it is not listed.
        let expected = json!([
            {"key": "learner.alpha_auto", "old": true, "new": false},
            {"key": "learner.tau", "old": 0.005, "new": 0.01},
        ]);
        assert_eq!(serde_json::to_value(&changes).unwrap(), expected, "{text}");
        assert_eq!(after.config.training.tau, 0.01);
        let shown = after.render();
        assert!(shown.contains("tau = 0.01 # POST /config"), "{shown}");
        assert!(shown.contains("lr_actor = 0.001 # tuned for Pendulum-v1"), "{shown}");
    }
}

#[test]
fn a_whole_file_of_the_settings_in_force_changes_nothing() {
    let before = resolved(&["learner.tau=0.007", "learner.importance_sampling_exponent=0.3"]);
    let (after, changes) = before.changed(&before.to_toml(), &Origin::Admin).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!((&after.config, after.render()), (&before.config, before.render()));
}

#[test]
fn a_change_is_held_to_the_rules_of_a_start() {
    assert_eq!(
        refusal("[learner]\ntau = 2"),
        "learner.tau = 2.0 (from POST /config): must be in (0, 1]"
    );
    assert_eq!(
        refusal("[learner]\ntou = 0.1"),
        "unknown key learner.tou (from POST /config); did you mean learner.tau?"
    );
    let text = refusal("[learner]\ntau = \"fast\"");
    assert!(text.contains("expected a value of type float"), "{text}");
    assert!(refusal("[learner").contains("POST /config is not valid TOML"));
    assert!(refusal("{\"learner\"").contains("POST /config is not valid JSON"));
    let fixed = resolved(&["learner.alpha_auto=false", "learner.alpha_init=0"]);
    let text = fixed.changed("learner.alpha_auto = true", &Origin::Admin).unwrap_err().to_string();
    assert!(text.starts_with("learner.alpha_init = 0.0"), "{text}");
}

#[test]
fn networks_and_shapes_cannot_change() {
    for text in [
        "[cluster]\nhidden = [32]",
        "[learner]\nbatch_size = 64",
        "[learner]\ntarget_actor = \"copy\"",
        "[learner]\nalgorithm = \"lac\"",
        "[lac]\nlambda_init = 0.5",
        "[bcq]\nphi = 0.1",
    ] {
        let said = refusal(text);
        assert!(
            said.contains("cannot change while training; these can: learner.lr_actor"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_change_counts_once_the_loop_has_taken_it_and_not_before() {
    let port = ConfigPort::default();
    let nobody = port.apply("learner.tau = 0.01", &Origin::Admin).await;
    assert!(matches!(nobody, Err(ApplyError::Closed)), "{nobody:?}");
    let mut changes = port.open(resolved(&[]));

    let asking = port.clone();
    let refused =
        tokio::spawn(async move { asking.apply("learner.tau = 0.01", &Origin::Admin).await });
    let change = changes.recv().await.unwrap();
    assert_eq!(change.resolved.config.training.tau, 0.01);
    let meanwhile = port.apply("learner.lr_actor = 1e-5", &Origin::Admin).await;
    assert!(matches!(meanwhile, Err(ApplyError::Busy)), "{meanwhile:?}");
    change.reply.send(Err("not now".into())).unwrap();
    assert_eq!(refused.await.unwrap().unwrap_err().to_string(), "not now");

    // The caller gives up, but the change is still made, and the next change is compared with it.
    let asking = port.clone();
    let cancelled =
        tokio::spawn(async move { asking.apply("learner.tau = 0.02", &Origin::Admin).await });
    let change = changes.recv().await.unwrap();
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    change.reply.send(Ok(())).unwrap();
    let again = loop {
        match port.apply("learner.tau = 0.02", &Origin::Admin).await {
            Err(ApplyError::Busy) => tokio::task::yield_now().await,
            applied => break applied,
        }
    };
    assert!(again.unwrap().is_empty(), "it is in force already");

    drop(changes);
    assert!(!port.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_watched_file_is_applied_whenever_its_text_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("live.toml");
    let port = ConfigPort::default();
    let mut changes = port.open(resolved(&[]));
    let following = tokio::spawn(follow(file.clone(), port.clone()));
    for (text, tau) in [("learner.tau = 0.01", 0.01), ("learner.tau = 0.02", 0.02)] {
        std::fs::write(&file, text).unwrap();
        let change = changes.recv().await.unwrap();
        assert_eq!(change.resolved.config.training.tau, tau);
        change.reply.send(Ok(())).unwrap();
    }
    // A refused change is skipped, and a later valid one is applied.
    std::fs::write(&file, "learner.tau = 7").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(changes.try_recv().is_err());
    std::fs::write(&file, "learner.tau = 0.03").unwrap();
    let change = changes.recv().await.unwrap();
    assert_eq!(change.resolved.config.training.tau, 0.03);
    change.reply.send(Ok(())).unwrap();
    drop(changes);
    following.await.unwrap();
}
