//! `actor.id` is a number chosen by the user, or "auto".

use common::config::{ActorNumber, ConfigError, Layers, Resolved, load};
use common::limits::ACTOR_IDS_DRAWN;

fn with_id(id: &str) -> Result<Resolved, ConfigError> {
    load(&Layers { set: vec![format!("actor.id={id}")], ..Layers::default() })
}

#[test]
fn an_actor_is_numbered_by_hand_or_by_itself() {
    let number = |id| with_id(id).unwrap().config.actor.id;
    assert_eq!(load(&Layers::default()).unwrap().config.actor.id, ActorNumber::Auto);
    assert_eq!((number("3"), number("auto")), (ActorNumber::Given(3), ActorNumber::Auto));
    assert_eq!(
        (number("\"auto\""), number("1048575")),
        (ActorNumber::Auto, ActorNumber::Given(1_048_575))
    );
    assert!(with_id("3").unwrap().render().contains("id = 3 # --set"));
}

#[test]
fn a_wrong_number_is_refused_with_both_forms() {
    let drawn = ACTOR_IDS_DRAWN.start.to_string();
    for (wrong, shown) in
        [("first", "\"first\""), ("-1", "-1"), ("1.5", "1.5"), (&drawn, &drawn), ("[3]", "[3]")]
    {
        let error = with_id(wrong).unwrap_err().to_string();
        let expected = format!(
            "actor.id = {shown} (from --set): must be a whole number from 0 to 1048575, or \"auto\""
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn a_run_keeps_what_was_given() {
    for id in ["3", "auto"] {
        let resolved = with_id(id).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), resolved.to_toml()).unwrap();
        let run = Some(dir.path().to_owned());
        let again = load(&Layers { run, ..Layers::default() }).unwrap();
        assert_eq!(again.config.actor, resolved.config.actor);
    }
}
