//! Recordings: rows of an actor are read back unchanged, and other files are refused with an error that names them.

use actor_node::env::registry;
use actor_node::rows::Recorder;
use common::config::{self, ClusterConfig, Layers};
use common::ids::ActorId;
use common::recording::{Header, LAYOUT_FILE, Recording};
use std::path::Path;

fn cluster() -> ClusterConfig {
    config::load(&Layers::default()).unwrap().config.cluster
}

fn header(env: &str, cluster: &ClusterConfig) -> Header {
    let env = registry::make(env, &Default::default()).unwrap();
    Header::new(env.spec(), cluster, 0)
}

/// Returns `count` rows whose floats are all `value`.
fn rows(header: &Header, count: usize, value: f32) -> Vec<u8> {
    let layout = header.layout();
    let mut row = vec![0; layout.row_bytes];
    for name in ["obs", "action", "reward", "discount", "next_obs"] {
        let field = layout.field(name).unwrap();
        for bytes in row[field.offset..][..field.bytes()].chunks_exact_mut(4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
    row.repeat(count)
}

fn record(dir: &Path, actor: u32, header: &Header, rows: &[u8]) {
    Recorder::open(dir, ActorId(actor), header).unwrap().append(rows);
}

fn refusal(dir: &Path) -> String {
    let text = match Recording::open(dir) {
        Ok(recording) => recording.blocks(7).find_map(Result::err).unwrap().to_string(),
        Err(error) => error.to_string(),
    };
    text.replace(&format!("{}/", dir.display()), "")
}

#[test]
fn what_several_actors_wrote_over_several_lives_is_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let header = header("Pendulum-v1", &cluster());
    record(dir.path(), 1, &header, &rows(&header, 3, 0.25));
    record(dir.path(), 0, &header, &rows(&header, 10, 0.5));
    record(dir.path(), 1, &header, &rows(&header, 2, 0.75));
    let recording = Recording::open(dir.path()).unwrap();
    assert_eq!((recording.rows(), Header::read(dir.path()).unwrap()), (15, header.clone()));
    let expected = [(10, 0.5), (3, 0.25), (2, 0.75)].map(|(n, x)| rows(&header, n, x)).concat();
    for rows_max in [1, 4, 100] {
        let blocks: Vec<_> = recording.blocks(rows_max).map(Result::unwrap).collect();
        assert!(blocks.iter().all(|block| block.len() <= rows_max * header.row_bytes));
        assert_eq!(blocks.concat(), expected, "in blocks of {rows_max}");
    }
}

#[test]
fn rows_by_other_settings_are_refused_by_reader_and_writer() {
    let dir = tempfile::tempdir().unwrap();
    let own = header("Pendulum-v1", &cluster());
    record(dir.path(), 0, &own, &rows(&own, 1, 0.0));
    let recording = Recording::open(dir.path()).unwrap();
    recording.expect(&own).unwrap();
    let three_steps = header("Pendulum-v1", &ClusterConfig { n_step: 3, ..cluster() });
    for (other, expected) in [
        (&header("MountainCarContinuous-v0", &cluster()), "env.act"),
        (&header("CartPole-v1", &cluster()), "env.act_dim is 1, expected 2"),
        (&three_steps, "n_step is 1, expected 3"),
    ] {
        let refused = recording.expect(other).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        let refused = Recorder::open(dir.path(), ActorId(0), other).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    // Processes without the environment do not know its time limit, so a header without one must be accepted.
    let mut unlimited = own;
    unlimited.env.episode_steps_max = None;
    recording.expect(&unlimited).unwrap();
}

#[test]
fn a_torn_row_is_refused_and_the_actors_next_life_repairs_it() {
    let dir = tempfile::tempdir().unwrap();
    let header = header("Pendulum-v1", &cluster());
    let mut torn = rows(&header, 2, 0.5);
    torn.truncate(60);
    record(dir.path(), 4, &header, &torn);
    assert_eq!(
        refusal(dir.path()),
        "rows-4.bin: 60 bytes are no whole number of rows of 48; where its actor was killed while writing, \
         cut it to 48 bytes"
    );
    record(dir.path(), 4, &header, &rows(&header, 1, 0.5));
    assert_eq!(Recording::open(dir.path()).unwrap().rows(), 2);
}

#[test]
fn values_that_no_actor_writes_are_refused_with_their_place() {
    for (env, value, expected) in [
        (
            "Pendulum-v1",
            f32::NAN,
            "rows-0.bin: row 9: obs[0] is NaN, expected a number within ±6.4e7",
        ),
        ("Pendulum-v1", 1.5, "rows-0.bin: row 9: action[0] is 1.5, expected -1 to 1"),
        ("Pendulum-v1", -0.5, "rows-0.bin: row 9: discount[0] is -0.5, expected 0 to 1"),
        ("CartPole-v1", 2.0, "rows-0.bin: row 9: action[0] is 2, expected a whole number below 2"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let header = header(env, &cluster());
        record(dir.path(), 0, &header, &rows(&header, 9, 1.0));
        record(dir.path(), 0, &header, &rows(&header, 1, value));
        assert_eq!(refusal(dir.path()), expected);
    }
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let good = header("Pendulum-v1", &cluster());
    let changed = |from: &str, to: &str| {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), 0, &good, &rows(&good, 1, 0.0));
        let path = dir.path().join(LAYOUT_FILE);
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs_err::write(&path, text.replacen(from, to, 1)).unwrap();
        refusal(dir.path())
    };
    for (from, to, expected) in [
        ("\"format\": 1", "\"format\": 9", "layout.json: format is 9, expected 1"),
        (
            "\"obs_dim\": 3",
            "\"obs_dim\": 0",
            "layout.json: env.obs_dim is 0, expected 1 to 1048576",
        ),
        ("\"obs_dim\": 3", "\"obs_dim\": 4", "layout.json: row_bytes or fields do not follow"),
        (
            "\"row_bytes\": 48",
            "\"row_bytes\": 56",
            "layout.json: row_bytes or fields do not follow",
        ),
        (
            "\"obs_dim\": 3",
            "\"obs_dim\": 1000000",
            "layout.json: rows have 8000024 bytes, expected at most",
        ),
        ("\"gamma\"", "\"gama\"", "layout.json: unknown field `gama`"),
    ] {
        let refused = changed(from, to);
        assert!(refused.starts_with(expected), "{refused}");
    }
    let empty = tempfile::tempdir().unwrap();
    record(empty.path(), 0, &good, &[]);
    assert!(refusal(empty.path()).ends_with("no rows, expected files named rows-N.bin"));
}
