//! `config/shapes.toml` lists the shapes of the native environments for processes without environments. It must match
//! the environments. `SAPEX_WRITE_DOCS=1` (`make docs`) writes it.

use actor_node::env::registry::{self, Setup};
use actor_node::env::wrappers::Purpose;
use actor_node::env::{EnvError, EnvParams};
use common::config::{
    Layers, known_envs, known_shapes, load, option_changes_shapes, shape_settings,
};
use common::spec::EnvSpec;
use std::collections::BTreeSet;

const HEAD: &str = "# Shapes of the native environments, by which every process knows them. Made from the environments by `make docs`.\n";

/// Returns the shapes of an environment; `None` if this build lacks it.
fn shapes_of(name: &str, params: &EnvParams) -> Option<Result<EnvSpec, EnvError>> {
    match registry::make(name, params) {
        Err(EnvError::NotBuilt { .. }) => None,
        made => Some(made.map(|env| EnvSpec { episode_steps_max: None, ..env.spec().clone() })),
    }
}

fn section(spec: &EnvSpec) -> String {
    let line = |(key, value): (String, _)| format!("{} = {value}\n", key.replace("cluster.", ""));
    let lines: String = shape_settings(spec).into_iter().map(line).collect();
    format!("\n[{:?}]\n{lines}", spec.id)
}

#[test]
fn the_file_has_every_native_environment_as_it_is() {
    let made =
        registry::names().map(|(name, _)| Some(shapes_of(name, &EnvParams::new())?.unwrap()));
    let made: Option<Vec<EnvSpec>> = made.collect();
    if std::env::var_os("SAPEX_WRITE_DOCS").is_some() {
        let made = made.expect("a build with every environment writes the file");
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/shapes.toml");
        let sections: String = made.iter().map(section).collect();
        return fs_err::write(page, format!("{HEAD}{sections}")).unwrap();
    }
    let named: BTreeSet<_> = registry::names().map(|(name, _)| name).collect();
    assert_eq!(known_envs().collect::<BTreeSet<_>>(), named, "run `make docs`");
    for name in named {
        if let Some(spec) = shapes_of(name, &EnvParams::new()) {
            assert_eq!(known_shapes(name), Some(spec.unwrap()), "run `make docs`");
        }
    }
}

/// Returns the options that an environment names when it refuses an unknown one.
fn options(name: &str) -> Vec<String> {
    let other = EnvParams::from([("no such option".to_owned(), "1".to_owned())]);
    let error = shapes_of(name, &other).unwrap().unwrap_err().to_string();
    let known = error.rsplit_once("expected one of ").unwrap().1;
    serde_json::from_str(known).unwrap()
}

#[test]
fn an_option_that_changes_shapes_is_known_to_do_so() {
    let mut changing = 0;
    for (name, _) in registry::names() {
        let Some(plain) = shapes_of(name, &EnvParams::new()) else { continue };
        let plain = plain.unwrap();
        for option in options(name) {
            for value in ["true", "false", "0", "2", "-3,3"] {
                let params = EnvParams::from([(option.clone(), value.to_owned())]);
                // A value that the option does not accept has no effect.
                let Some(Ok(spec)) = shapes_of(name, &params) else { continue };
                let changed = spec != plain;
                changing += usize::from(changed);
                assert!(!changed || option_changes_shapes(&option), "{name}: {option} = {value}");
            }
        }
    }
    assert!(changing > 0 || cfg!(not(feature = "mujoco")));
}

#[test]
fn wrappers_change_shapes_as_every_process_expects() {
    for (env, wrappers) in [
        ("Pendulum-v1", r#"["action-rescale", "frame-stack", "obs-delay"]"#),
        ("PixelCatch-v1", r#"["frame-stack", "obs-flatten", "action-repeat"]"#),
        ("PixelCatch-v1", r#"["obs-flatten", "frame-stack"]"#),
        ("CartPole-v1", r#"["time-limit", "frame-stack", "reward-clip", "reward-scale"]"#),
        ("MountainCarContinuous-v0", r#"["action-noise", "frame-stack"]"#),
    ] {
        let set = [format!("cluster.env={env}"), format!("cluster.wrappers={wrappers}")];
        let set = [&set[..], &["cluster.frame_stack=3".to_owned()]].concat();
        let resolved = load(&Layers { set, ..Layers::default() }).unwrap();
        let made = Setup::new(&resolved.config).make(env, Purpose::Training).unwrap();
        let spec = EnvSpec { episode_steps_max: None, ..made.spec().clone() };
        assert_eq!(resolved.env_spec().unwrap(), spec, "{env}, {wrappers}");
    }
}
