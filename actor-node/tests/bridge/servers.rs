//! Servers at an address: the server of `docs/env-protocol.md`, which needs only Python, and servers that break the
//! protocol.

use super::with;
use actor_node::draw::Frame;
use actor_node::env::bridge::{self, DEADLINE_MS, PICTURES};
use actor_node::env::registry;
use actor_node::env::{Env, EnvParams};
use actor_node::lanes::{Fault, Lanes};
use common::runtime::seed::SeedTree;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

/// The server of the documentation, running.
struct Documented(Child);

impl Documented {
    /// Starts the server; `None` if there is no Python.
    fn start(folder: &Path, address: &str) -> Option<Self> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/env-protocol.md");
        let page = fs_err::read_to_string(page).unwrap();
        let code = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
        let script = folder.join("server.py");
        fs_err::write(&script, code).unwrap();
        match Command::new("python3").arg(&script).arg(address).spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                println!("SKIPPED: python3: {error}");
                None
            }
        }
    }
}

impl Drop for Documented {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Steps the documented server's environment beyond its time limit, checks each step, and returns all observations.
fn walk(name: &str) -> Vec<f32> {
    let (mut lanes, mut turn) = Lanes::new(name, &with(&[]), 3, SeedTree::new(1)).unwrap();
    assert_eq!(lanes.spec().id, name);
    let mut seen = turn.obs.clone();
    for step in 1..=100 {
        let before = turn.obs.clone();
        lanes.step(&[1.0, -1.0, 0.0], &mut turn).unwrap();
        for (lane, push) in [1.0, -1.0, 0.0].into_iter().enumerate() {
            let [x, v] = [before[2 * lane], before[2 * lane + 1]];
            let expected = 0.9_f32.mul_add(v, 0.1 * push);
            assert!((turn.next_obs[2 * lane + 1] - expected).abs() < 1e-5, "step {step}");
            assert!((turn.next_obs[2 * lane] - (x + expected)).abs() < 1e-5, "step {step}");
        }
        assert!(turn.discarded.is_empty());
        seen.extend(&turn.next_obs);
    }
    assert_eq!(turn.ended.iter().filter(|ended| ended.length == 100).count(), 1, "the still one");
    seen
}

#[test]
fn the_documented_server_is_stepped_over_a_socket_and_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("line.sock");
    let Some(_local) = Documented::start(folder.path(), socket.to_str().unwrap()) else { return };
    let seen = walk(&format!("unix:{}", socket.display()));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(_remote) = Documented::start(folder.path(), &format!("127.0.0.1:{free}")) else {
        return;
    };
    assert_eq!(walk(&format!("tcp:127.0.0.1:{free}")), seen, "the same, by the same seeds");
}

/// Serves one connection with given bytes: `SPEC` and `READY`, then one of `answers` for each batch or picture.
fn liar(listener: &UnixListener, spec: &str, answers: &[Vec<u8>]) {
    let (mut stream, _) = listener.accept().unwrap();
    receive(&mut stream, 1);
    stream.write_all(&message(2, spec.as_bytes())).unwrap();
    // A client that refuses the spec closes the connection.
    if !try_receive(&mut stream, &[3]) {
        return;
    }
    stream.write_all(&message(4, &[])).unwrap();
    for answer in answers {
        if !try_receive(&mut stream, &[5, 9]) {
            return;
        }
        stream.write_all(answer).unwrap();
    }
    // Sends nothing more until the client disconnects.
    try_receive(&mut stream, &[5, 9]);
    try_receive(&mut stream, &[5, 9]);
}

fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), payload].concat()
}

fn receive(stream: &mut UnixStream, kind: u32) {
    assert!(try_receive(stream, &[kind]), "the client is gone");
}

fn try_receive(stream: &mut UnixStream, expected: &[u32]) -> bool {
    let mut header = [0; 8];
    if stream.read_exact(&mut header).is_err() {
        return false;
    }
    let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
    assert!(expected.contains(&kind), "message {kind}");
    let length = u32::from_le_bytes(header[4..].try_into().unwrap());
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).is_ok()
}

const SPEC: &str = r#"{"protocol": 1, "obs_dim": 1, "obs_image": null, "actions": "discrete",
    "act_dim": 2, "episode_steps_max": null}"#;

/// Returns a result for two lanes: the outcomes, rewards 1 and 2, observations 3 and 4.
fn result(outcomes: [u8; 2]) -> Vec<u8> {
    let rewards = [1.0_f64.to_le_bytes(), 2.0_f64.to_le_bytes()].concat();
    let obs = [3.0_f32.to_le_bytes(), 4.0_f32.to_le_bytes()].concat();
    message(6, &[&outcomes[..], &[0; 6], &rewards, &obs].concat())
}

#[test]
fn two_lanes_are_one_batch_and_a_failed_one_is_rebuilt_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let failed = message(7, &[&1_u32.to_le_bytes()[..], b"first line\nout of fuel\n"].concat());
    let answers = [
        result([0, 0]),
        result([0, 0]),
        // The batch of both lanes, answered in one message.
        result([1, 2]),
        result([0, 0]),
        result([0, 0]),
        [failed, result([0, 4])].concat(),
        result([0, 0]),
    ];
    let server = std::thread::spawn(move || liar(&listener, SPEC, &answers));
    let name = format!("unix:{}", path.display());
    let (mut lanes, mut turn) = Lanes::new(&name, &with(&[]), 2, SeedTree::new(1)).unwrap();
    lanes.step(&[0.0, 1.0], &mut turn).unwrap();
    assert_eq!((&turn.reward[..], &turn.next_obs[..]), (&[1.0, 2.0][..], &[3.0, 4.0][..]));
    assert_eq!(
        (&turn.terminated[..], &turn.truncated[..]),
        (&[true, false][..], &[false, true][..])
    );
    lanes.step(&[0.0, 1.0], &mut turn).unwrap();
    assert_eq!(turn.discarded, [(1, Fault::Error, "out of fuel".to_owned())]);
    assert_eq!(turn.reward[0], 1.0);
    drop(lanes);
    server.join().unwrap();
}

#[test]
fn servers_that_break_the_protocol_are_refused() {
    let short = message(6, &[0; 24]);
    let foreign = message(5, &[]);
    for (spec, answer, expected) in [
        ("{}", vec![], "its description: missing field `protocol`"),
        (&SPEC.replace("1,", "2,")[..], vec![], "protocol 2, expected 1"),
        (SPEC, short, "message 6 of 24 bytes, expected a result"),
        (SPEC, foreign, "message 5 of 0 bytes, expected a result"),
        (SPEC, result([8, 0]), "outcome 8 of lane 0, expected bits 1, 2, 4"),
        (SPEC, [0xff; 8].to_vec(), "message 4294967295 of 4294967295 bytes, expected a result"),
        (SPEC, message(8, b"no more fuel"), "no more fuel"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let spec = spec.to_owned();
        let server = std::thread::spawn(move || liar(&listener, &spec, &[answer]));
        let name = format!("unix:{}", path.display());
        let error = Lanes::new(&name, &with(&[]), 2, SeedTree::new(1)).unwrap_err().to_string();
        assert!(error.starts_with(&name) && error.contains(expected), "{error}");
        server.join().unwrap();
    }
}

/// Runs `look` on an environment with pictures, whose server has one lane and sends `answers` after the first reset.
/// Returns the result of `look`.
fn filmed<T>(spec: &str, answers: Vec<Vec<u8>>, look: impl FnOnce(&mut dyn Env) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let spec = spec.to_owned();
    let answers = [vec![one(0.0)], answers].concat();
    let server = std::thread::spawn(move || liar(&listener, &spec, &answers));
    let name = format!("unix:{}", path.display());
    let mut env = registry::make(&name, &bridge::with_pictures(&name)).unwrap();
    env.reset(Some(1), &mut [0.0]).unwrap();
    let seen = look(env.as_mut());
    drop(env);
    server.join().unwrap();
    seen
}

/// Returns a result for one lane in which all numbers except the reward are zero.
fn one(reward: f64) -> Vec<u8> {
    message(6, &[&[0; 8][..], &reward.to_le_bytes(), &[0; 8]].concat())
}

fn picture(width: u32, height: u32, seconds: f64, bytes: usize) -> Vec<u8> {
    let sizes = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let pixels: Vec<_> = (0..bytes).map(|i| (i % 256) as u8).collect();
    message(10, &[&sizes[..], &seconds.to_le_bytes(), &pixels].concat())
}

fn with_render() -> String {
    SPEC.replace("\"protocol\"", "\"render\": true, \"protocol\"")
}

#[test]
fn servers_that_have_pictures_are_looked_at_and_a_failed_picture_costs_nothing_else() {
    let failed = message(7, &[&0_u32.to_le_bytes()[..], b"first line\nout of paint\n"].concat());
    let answers = vec![picture(2, 3, 0.05, 18), failed, one(4.5), picture(2, 3, 0.0, 18)];
    filmed(&with_render(), answers, |env| {
        let first = env.render().unwrap().unwrap();
        assert_eq!((first.width, first.height, first.seconds), (2, 3, 0.05));
        assert_eq!(first.rgb, (0..18).collect::<Vec<u8>>());
        let error = env.render().unwrap_err().to_string();
        assert!(
            error.starts_with("unix:") && error.ends_with(": no picture: out of paint"),
            "{error}"
        );
        assert_eq!(env.step(&[1.0], &mut [0.0]).unwrap().reward, 4.5);
        assert_eq!(env.render().unwrap().unwrap(), Frame { seconds: 1.0 / 30.0, ..first });
    });
}

#[test]
fn servers_without_pictures_are_not_asked_for_one() {
    let seen = filmed(SPEC, vec![one(4.5)], |env| {
        assert_eq!(env.render().unwrap(), None);
        env.step(&[1.0], &mut [0.0]).unwrap().reward
    });
    assert_eq!(seen, 4.5);
}

#[test]
fn pictures_that_are_not_as_announced_cost_the_connection() {
    let announced = |width, height, length| {
        format!(
            "a picture of {width} by {height} pixels in {length} bytes, expected 16 and 3 a pixel, \
             at most 67108864 of these"
        )
    };
    // Only the beginning of a picture that is too large. The client must not read more of it.
    let mut vast = picture(8192, 8192, 0.0, 0);
    vast[4..8].copy_from_slice(&(16 + 3 * 8192 * 8192_u32).to_le_bytes());
    let most = u32::MAX;
    for (answer, expected) in [
        (picture(2, 3, 0.0, 17), announced(2, 3, 33)),
        (picture(2, 3, 0.0, 19), announced(2, 3, 35)),
        (picture(0, 3, 0.0, 0), announced(0, 3, 16)),
        (picture(most, most, 0.0, 3), announced(most, most, 19)),
        (vast, announced(8192, 8192, 16 + 3 * 8192 * 8192)),
        (picture(1, 1, f64::NAN, 3), "a picture for NaN s, expected 0 or more".into()),
        (picture(1, 1, -1.0, 3), "a picture for -1 s, expected 0 or more".into()),
        (message(10, &[0; 15]), "message 10 of 15 bytes, expected a picture".into()),
        (one(0.0), "message 6 of 24 bytes, expected a picture".into()),
        (message(8, b"no paint at all"), "no paint at all".into()),
    ] {
        filmed(&with_render(), vec![answer], |env| {
            let error = env.render().unwrap_err().to_string();
            assert!(
                error.starts_with("unix:") && error.ends_with(&format!(": {expected}")),
                "{error}"
            );
            let after = env.step(&[1.0], &mut [0.0]).unwrap_err().to_string();
            assert_eq!(after, error, "the connection is gone");
        });
    }
}

#[test]
fn a_server_that_hangs_in_a_step_costs_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            liar(&listener, SPEC, &[result([0, 0]), result([0, 0])]);
        }
    });
    let name = format!("unix:{}", path.display());
    let setup = with(&[(DEADLINE_MS, "200")]);
    let (mut lanes, mut turn) = Lanes::new(&name, &setup, 2, SeedTree::new(1)).unwrap();
    lanes.step(&[0.0, 1.0], &mut turn).unwrap();
    let reason = format!("{name}: no answer within 200ms");
    assert_eq!(turn.discarded, [(0, Fault::Hang, reason.clone()), (1, Fault::Hang, reason)]);
    drop(lanes);
    server.join().unwrap();
}

#[test]
fn an_address_where_nobody_listens_is_refused_and_so_are_wrong_parameters() {
    let error = registry::make("tcp:nowhere", &EnvParams::new()).err().unwrap().to_string();
    assert!(error.starts_with("tcp:nowhere: nobody answers at nowhere: "), "{error}");
    for (key, value, expected) in [
        (DEADLINE_MS, "soon", "expected a whole number above 0"),
        (PICTURES, "maybe", "expected true or false"),
        (
            "bridge.color",
            "red",
            "expected one of [\"bridge.python\", \"bridge.deadline_ms\", \"bridge.close_ms\", \
             \"bridge.pictures\", \"bridge.unlimited\"]",
        ),
    ] {
        let error =
            registry::make("gym:X", &with(&[(key, value)]).params).err().unwrap().to_string();
        assert_eq!(error, format!("gym:X: parameter {key} = {value}: {expected}"));
    }
}
