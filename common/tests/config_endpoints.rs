//! Settings for the addresses of processes and for the interfaces on which servers listen.

use common::config::{ConfigError, Layers, Resolved, load};

fn with_set(assignments: &[&str]) -> Result<Resolved, ConfigError> {
    let set = assignments.iter().map(ToString::to_string).collect();
    load(&Layers { set, ..Layers::default() })
}

fn listens_at(bind: &str, endpoint: &str) -> String {
    let bind = format!("endpoints.bind={bind:?}");
    with_set(&[&bind]).unwrap().listens_at(&endpoint.parse().unwrap()).to_string()
}

#[test]
fn servers_listen_on_the_host_of_endpoints_bind_at_the_port_of_their_address() {
    let at = "tcp://replay-0.replay:5601";
    assert_eq!(listens_at("", at), at);
    assert_eq!(listens_at("0.0.0.0", at), "tcp://0.0.0.0:5601");
    assert_eq!(listens_at("[::]", at), "tcp://[::]:5601");
    assert_eq!(listens_at("*", at), "tcp://*:5601");
    assert_eq!(listens_at("0.0.0.0", "ipc:///run/sapex/replay"), "ipc:///run/sapex/replay");
}

#[test]
fn a_host_that_cannot_be_is_refused_when_the_settings_are_loaded() {
    for wrong in ["0.0.0.0:5601", "::", "a b", "tcp://0.0.0.0", "[::1"] {
        let error = with_set(&[&format!("endpoints.bind={wrong:?}")]).unwrap_err().to_string();
        let expected = format!(
            "endpoints.bind = \"{wrong}\" (from --set): must be empty or a host without a port, such as \"0.0.0.0\""
        );
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn an_address_that_cannot_be_is_refused_with_its_setting() {
    let resolved = with_set(&["endpoints.weights=learner:5600", "endpoints.replay=[\"tcp://a\"]"]);
    let resolved = resolved.unwrap();
    let weights = resolved.weights_endpoint().unwrap_err().to_string();
    let expected =
        "endpoints.weights = \"learner:5600\" (from --set): endpoint \"learner:5600\": expected";
    assert!(weights.starts_with(expected), "{weights}");
    let replay = resolved.replay_endpoints().unwrap_err().to_string();
    assert!(replay.starts_with("endpoints.replay = [\"tcp://a\"] (from --set): "), "{replay}");
}
