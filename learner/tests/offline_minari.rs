//! Minari datasets give the same rows as actors would have written. Other data is refused.
//!
//! `testdata/minari` and `testdata/minari_arrow` were written by the real library. If `SAPEX_MINARI_PYTHON` names a
//! Python with this library (`bench/requirements-minari.txt`), the tests let it write more datasets. Refusals are
//! tested on small files that the tests generate.

use crate::offline_made::{Field, Made};
use crate::offline_support::{config, spec};
use common::config::ConfigError;
use common::spec::{ActionKind, EnvSpec, ItemLayout};
use learner::offline::{DatasetError, OfflineData};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Steps and termination of the episodes of `minari_dataset.py`.
const EPISODES: [(usize, bool); 3] = [(5, true), (3, false), (1, true)];

/// Datasets with the same episodes in the HDF5 and in the Arrow layout.
const LAYOUTS: [&str; 2] = ["minari", "minari_arrow"];

fn checked_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn obs(episode: usize, step: usize) -> Vec<f32> {
    (0..3).map(|d| (100 * episode + step) as f32 + d as f32 / 8.0).collect()
}

/// Returns the expected rows, from the closed form of `minari_dataset.py`, as (obs, action, reward, discount, next
/// obs).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
fn expected(n_step: usize, gamma: f64, cut_ends: bool, is_discrete: bool) -> Vec<[Vec<f32>; 5]> {
    let mut rows = Vec::new();
    for (episode, (steps, terminated)) in EPISODES.into_iter().enumerate() {
        for step in 0..steps {
            let window = n_step.min(steps - step);
            let reward = |k: usize| episode as f64 - (step + k) as f64 / 4.0;
            let sum: f64 = (0..window).map(|k| gamma.powi(k as i32) * reward(k)).sum();
            let stops = step + window == steps && (terminated || cut_ends);
            let discount = if stops { 0.0 } else { gamma.powi(window as i32) };
            // The bounds are [-2, 2] and [0, 1]. Normalised, both are ((e + t + d) mod 5) / 2 - 1.
            let action = match is_discrete {
                true => vec![((episode + step) % 3) as f32],
                false => (0..2).map(|d| ((episode + step + d) % 5) as f32 / 2.0 - 1.0).collect(),
            };
            rows.push([
                obs(episode, step),
                action,
                vec![sum as f32],
                vec![discount as f32],
                obs(episode, step + window),
            ]);
        }
    }
    rows
}

/// Returns the numbers of an f32 field of a row.
fn field(layout: &ItemLayout, row: &[u8], name: &str) -> Vec<f32> {
    let field = layout.field(name).unwrap();
    let bytes = row[field.offset..][..field.bytes()].chunks_exact(4);
    bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs_err::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn assert_rows(data: &OfflineData, spec: &EnvSpec, set: &[&str], expected: &[[Vec<f32>; 5]]) {
    let layout = config(set).config.item_layout(spec);
    assert_eq!(data.len(), expected.len(), "rows");
    for (index, expected) in expected.iter().enumerate() {
        for (name, expected) in
            ["obs", "action", "reward", "discount", "next_obs"].iter().zip(expected)
        {
            let found = field(&layout, data.row(index), name);
            assert_eq!(found.len(), expected.len(), "{name} of row {index}");
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near, "{name} of row {index}: {found:?}, expected {expected:?}");
        }
        assert_eq!(data.row(index)[..8], [0; 8], "the policy version is 0");
    }
}

#[test]
fn a_dataset_of_the_real_library_becomes_the_rows_of_its_closed_form() {
    for (n_step, gamma, bootstrap) in [(1, 0.99, true), (3, 0.9, true), (2, 0.9, false)] {
        let set = [
            &format!("cluster.n_step={n_step}")[..],
            &format!("cluster.gamma={gamma}"),
            &format!("cluster.truncation_bootstrap={bootstrap}"),
        ];
        for name in LAYOUTS {
            let data = OfflineData::read(&checked_in(name), &spec(), &config(&set).config).unwrap();
            assert_rows(&data, &spec(), &set, &expected(n_step, gamma, !bootstrap, false));
        }
    }
}

#[test]
fn costs_are_summed_over_the_horizon_and_go_on_with_the_last_one() {
    let config = config(&["learner.algorithm=lac", "cluster.cost_horizon=4"]).config;
    let data = OfflineData::read(&checked_in("minari"), &spec(), &config).unwrap();
    let layout = config.item_layout(&spec());
    let sums: Vec<_> = (0..5).map(|row| field(&layout, data.row(row), "horizon_cost")[0]).collect();
    // The rewards are 0, -1/4, -1/2, -3/4, -1, -1, ...
    assert_eq!(sums, [-1.5, -2.5, -3.25, -3.75, -4.0]);
}

#[test]
fn every_dataset_that_the_installed_library_writes_is_read_or_refused_by_name() {
    let Ok(python) = std::env::var("SAPEX_MINARI_PYTHON") else {
        // Written to stderr directly, because the harness hides output and a skipped test must be visible.
        writeln!(
            std::io::stderr(),
            "SKIPPED: SAPEX_MINARI_PYTHON names no Python with minari (bench/requirements-minari.txt)"
        )
        .unwrap();
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/minari_dataset.py");
    let run = Command::new(python).arg(script).arg(out.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let written = |name: &str| out.path().join("closed").join(name);
    let read =
        |name: &str, spec: &EnvSpec| OfflineData::read(&written(name), spec, &config(&[]).config);
    let data = read("box-v0", &spec()).unwrap();
    assert_rows(&data, &spec(), &[], &expected(1, 0.99, false, false));
    let arrow = read("arrow-v0", &spec()).unwrap();
    assert_eq!(arrow.len(), data.len());
    for row in 0..data.len() {
        assert_eq!(arrow.row(row), data.row(row), "row {row} of both layouts");
    }
    for name in ["discrete-v0", "arrow-discrete-v0"] {
        let data = read(name, &choices()).unwrap();
        assert_rows(&data, &choices(), &[], &expected(1, 0.99, false, true));
    }
    let refused = |name| read(name, &spec()).unwrap_err().to_string();
    assert!(
        refused("parquet-v0")
            .contains("data_format is \"parquet\", expected \"hdf5\" or \"arrow\": ")
    );
    assert!(refused("dict-v0").contains("observation_space is Dict with the key position"));
}

fn choices() -> EnvSpec {
    EnvSpec {
        actions: ActionKind::Discrete,
        act_dim: 3,
        action_low: vec![],
        action_high: vec![],
        ..spec()
    }
}

/// Returns the error message of reading the dataset for that environment.
fn refusal_of(made: &Made, spec: &EnvSpec, set: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    made.write(dir.path());
    let error = OfflineData::read(dir.path(), spec, &config(set).config).unwrap_err();
    error.to_string().replace(&*dir.path().to_string_lossy(), "DIR")
}

#[test]
fn the_file_that_the_refusals_start_from_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    Made::new().write(dir.path());
    let data = OfflineData::read(dir.path(), &spec(), &config(&[]).config).unwrap();
    assert_eq!(data.len(), 5);
}

#[test]
fn wrong_descriptions_are_refused_with_what_is_found_and_expected() {
    let boxed = |shape: &str| format!(r#"{{"type": "Box", "shape": {shape}, "low": 0}}"#);
    let dict = r#"{"type": "Dict", "subspaces": {"goal": {}, "observation": {}}}"#;
    let narrow = r#"{"type": "Box", "shape": [2], "low": [-2.0, 0.0], "high": [2.0, 2.0]}"#;
    let cases = [
        (
            ("observation_space", json!(boxed("[4]"))),
            "observation_space is Box of shape [4], expected Box of shape [3]",
        ),
        (("observation_space", json!(boxed("[3,1]"))), "is Box of shape [3,1], expected Box of"),
        (
            ("observation_space", json!(dict)),
            "observation_space is Dict with the key goal, observation, expected Box of shape [3]",
        ),
        (
            ("action_space", json!(r#"{"type": "Discrete", "n": 3, "start": 0}"#)),
            "action_space is Discrete of 3, expected Box of shape [2]",
        ),
        (("action_space", json!(narrow)), "high of action_space is [2.0,2.0], expected [2.0, 1.0]"),
        (("data_format", json!("parquet")), "data_format is \"parquet\", expected \"hdf5\" or"),
        (("total_episodes", json!(3)), "total_episodes is 3, expected 2, as many as data/main"),
        (("total_steps", json!(6)), "total_steps is 6, expected 5, as many as data/main_data"),
        (
            ("total_steps", json!(4)),
            "length of episode_1/rewards is 2, expected 1 to 1, what is left of total_steps",
        ),
        (("total_steps", json!(1_u64 << 62)), "4611686018427387904 rows of 48 bytes do not fit"),
        (("action_space", json!("{")), "DIR/data/metadata.json: EOF"),
        (("total_steps", json!("many")), "DIR/data/metadata.json: invalid type"),
    ];
    for ((key, value), expected) in cases {
        let mut made = Made::new();
        made.metadata[key] = value;
        let refusal = refusal_of(&made, &spec(), &[]);
        assert!(refusal.contains(expected), "{key}: {refusal}");
    }
}

#[test]
fn wrong_episodes_are_refused_with_file_episode_and_field() {
    type Spoil = fn(&mut Field);
    let cases: [(usize, Spoil, &str); 8] = [
        (
            0,
            |obs| (obs.1, obs.2) = (vec![2, 3], vec![0.0; 6]),
            "DIR/data/main_data.hdf5: shape of episode_1/observations is [2, 3], expected [3, 3]",
        ),
        (
            0,
            |obs| obs.2[5] = f64::NAN,
            "episode_1/observations[1, 2] is NaN, expected a number within ±1e6",
        ),
        (1, |actions| actions.2[3] = 1.25, "episode_1/actions[1, 1] is 1.25, expected 0 to 1"),
        (1, |actions| actions.0 = "other", "DIR/data/main_data.hdf5: episode_1/actions: "),
        (2, |rewards| rewards.2[1] = 1e21, "episode_1/rewards[1, 0] is 1"),
        (2, |rewards| rewards.1 = vec![2, 1], "shape of episode_1/rewards is [2, 1], expected [n]"),
        (3, |ends| ends.2[0] = 2.0, "episode_1/terminations[0] is 2, expected true or false"),
        (
            4,
            |ends| (ends.1, ends.2) = (vec![3], vec![0.0; 3]),
            "shape of episode_1/truncations is [3], expected [2]",
        ),
    ];
    for (field, spoil, expected) in cases {
        let mut made = Made::new();
        spoil(&mut made.episodes[1][field]);
        let refusal = refusal_of(&made, &spec(), &[]);
        assert!(refusal.contains(expected), "expected {expected}: {refusal}");
    }
}

#[test]
fn runs_that_need_more_than_transitions_are_sent_to_recordings() {
    let recurrent = ["cluster.network=lstm", "cluster.hidden=[8]", "cluster.sequence_len=8"];
    let refusal = refusal_of(&Made::new(), &spec(), &recurrent);
    assert!(refusal.contains("expected a recording of this run's actors"), "{refusal}");
    let images = EnvSpec { obs_image: Some([1, 1, 3]), ..spec() };
    let refusal = refusal_of(&Made::new(), &images, &[]);
    assert!(refusal.contains("Minari keeps images as JPEG"), "{refusal}");
}

#[test]
fn a_discrete_action_that_is_no_choice_is_refused() {
    for value in [3.0, -1.0, 0.5] {
        let mut made = Made::new();
        made.metadata["action_space"] = json!(r#"{"type": "Discrete", "n": 3, "start": 0}"#);
        for (episode, steps) in made.episodes.iter_mut().zip([3, 2]) {
            episode[1] = ("actions", vec![steps as u64], vec![2.0; steps]);
        }
        made.episodes[0][1].2[1] = value;
        let refusal = refusal_of(&made, &choices(), &[]);
        let expected = format!("episode_0/actions[1, 0] is {value}, expected one of 3 numbers");
        assert!(refusal.contains(&expected), "{refusal}");
    }
}

/// The first action's bounds are as wide as f32, and the second action's bounds have no width.
#[test]
fn actions_of_degenerate_boxes_are_normalised_or_refused_by_their_index() {
    let max = f32::MAX;
    let spec = EnvSpec { action_low: vec![-max, 0.7], action_high: vec![max, 0.7], ..spec() };
    let made = |action: [f64; 2]| {
        let mut made = Made::new();
        let space = json!({
            "type": "Box", "shape": [2], "low": spec.action_low, "high": spec.action_high,
        });
        made.metadata["action_space"] = json!(space.to_string());
        for (episode, steps) in made.episodes.iter_mut().zip([3, 2]) {
            episode[1].2 = action.repeat(steps);
        }
        made
    };
    for (first, normal) in [(f64::from(max), 1.0), (0.0, 0.0), (-f64::from(max), -1.0)] {
        let dir = tempfile::tempdir().unwrap();
        made([first, 0.7]).write(dir.path());
        let data = OfflineData::read(dir.path(), &spec, &config(&[]).config).unwrap();
        let layout = config(&[]).config.item_layout(&spec);
        assert_eq!(field(&layout, data.row(0), "action"), [normal, 0.0]);
    }
    let refusal = refusal_of(&made([0.0, 0.8]), &spec, &[]);
    assert!(refusal.contains("episode_0/actions[0, 1] is 0.8, expected 0.7 to 0.7"), "{refusal}");
}

#[test]
fn damaged_files_are_refused_and_never_bring_the_process_down() {
    let dir = tempfile::tempdir().unwrap();
    copy(&checked_in("minari").join("data"), &dir.path().join("data"));
    let path = dir.path().join("data/main_data.hdf5");
    let whole = fs_err::read(&path).unwrap();
    let config = config(&[]).config;
    let mut refused = 0;
    // Every 97th byte of the structures at the front of the file, then truncated files.
    for at in (0..9000).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs_err::write(&path, damaged).unwrap();
        refused += usize::from(OfflineData::read(dir.path(), &spec(), &config).is_err());
    }
    assert!(refused > 0, "none of the damaged files was refused");
    for length in [0, 1, 100, 4000, whole.len() / 2] {
        fs_err::write(&path, &whole[..length]).unwrap();
        let error = OfflineData::read(dir.path(), &spec(), &config).unwrap_err();
        assert!(matches!(error, DatasetError::Hdf5 { .. }), "cut at {length}: {error}");
        assert!(error.to_string().contains("main_data.hdf5"), "{error}");
    }
}

#[test]
fn a_run_names_the_key_and_its_value_when_it_refuses_a_dataset() {
    let wide = EnvSpec { obs_dim: 17, ..spec() };
    let folder = checked_in("minari");
    let dataset = format!("offline.dataset={}", folder.display());
    let rng = || rand_pcg::Pcg64::new(1, 1);
    let resolved = config(&[&dataset]);
    let error = learner::offline::OfflineSource::open(&resolved, &wide, rng()).unwrap_err();
    assert!(matches!(&error, ConfigError::Invalid { key, .. } if key == "offline.dataset"));
    let message = error.to_string();
    assert!(message.contains("testdata/minari"), "{message}");
    assert!(message.contains("Box of shape [3], expected Box of shape [17]"), "{message}");
    let resolved = config(&["offline.dataset=/nowhere"]);
    let error = learner::offline::OfflineSource::open(&resolved, &spec(), rng()).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("offline.dataset = \"/nowhere\""), "{message}");
    assert!(message.contains("must be a folder with data/metadata.json"), "{message}");
}
