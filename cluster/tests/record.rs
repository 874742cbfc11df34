//! `sapex record` and `sapex eval --video` as a user runs them.
//!
//! Recordings are read back by the trainer's own reader. If `SAPEX_MINARI_PYTHON` names a Python with the real `minari`
//! library (`bench/requirements-minari.txt`), that library reads them too.

use actor_node::env::EnvOrigin;
use cluster::record::minari::{About, Dataset, MinariEpisode};
use common::run_dir::RunDir;
use learner::offline::OfflineData;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn sapex(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sapex"));
    command.args(args).env("RUST_LOG", "warn");
    command
}

fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("status {:?}\n{out}{err}", output.status.code())
}

/// Trains a short run, whose policy has hardly learned, and returns its directory.
fn run(dir: &Path, env: &str) -> PathBuf {
    run_with(dir, env, "python3")
}

/// Returns the directory of the Python environments that the bridge's own tests use.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../actor-node/tests/bridge")
}

/// Does the same with the given Python interpreter, for environments that need one.
fn run_with(dir: &Path, env: &str, python: &str) -> PathBuf {
    let path = dir.join("run");
    let mut args = vec!["train", "--lockstep", "--env", env, "--run-dir", path.to_str().unwrap()];
    args.extend(["--python", python]);
    for setting in [
        "cluster.hidden=[8]",
        "learner.critic_hidden=[8]",
        "learner.batch_size=8",
        "replay.min_size=20",
        "actor.warmup_steps=20",
        "run.env_steps=60",
        "evaluator.final_episodes=1",
    ] {
        args.extend(["--set", setting]);
    }
    let output = sapex(&args).env("PYTHONPATH", modules()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    path
}

/// Reports on stderr that something could not be tested.
#[expect(
    clippy::explicit_write,
    reason = "past the capture of the harness: a test that did not run must be seen"
)]
fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
}

/// Returns what the real library reads from the dataset `id` below `root`. `None` if the library is not available.
fn library_reads(root: &Path, id: &str) -> Option<Value> {
    let Ok(python) = std::env::var("SAPEX_MINARI_PYTHON") else {
        skipped("SAPEX_MINARI_PYTHON names no Python with minari (bench/requirements-minari.txt)");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/minari_read.py");
    let mut command = Command::new(python);
    command.arg(script).arg(id).env("MINARI_DATASETS_PATH", root);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Returns all numbers in a nested list.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    }
}

#[test]
fn a_recorded_policy_is_read_by_the_trainer_and_by_the_library_with_the_returns_of_its_evaluation()
{
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "Pendulum-v1");
    let run = path.to_str().unwrap();
    let id = "tests/pendulum-v3";
    let out = dir.path().join("datasets").join(id);
    let record = ["record", run, "--episodes", "3", "--seed", "5", "--dataset-id", id];
    let record = |more: &[&str]| {
        sapex(&[&record[..], &["--out", out.to_str().unwrap()], more].concat()).output().unwrap()
    };
    let recorded = record(&[]);
    assert!(recorded.status.success(), "{}", text(&recorded));
    assert!(text(&recorded).contains("3 episodes, 600 steps"), "{}", text(&recorded));
    let again = record(&[]);
    assert!(text(&again).contains("there is a dataset already"), "{}", text(&again));

    let resolved = RunDir::open(&path).unwrap().config().unwrap();
    let (spec, config) = (resolved.env_spec().unwrap(), resolved.config);
    let data = OfflineData::read(&out, &spec, &config).unwrap();
    let layout = config.item_layout(&spec);
    let field = |row: usize, name: &str| -> Vec<f32> {
        let field = layout.field(name).unwrap();
        let bytes = data.row(row)[field.offset..][..field.bytes()].chunks_exact(4);
        bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(data.len(), 600);
    // Episodes are truncated, not terminated, so the value is bootstrapped after the last step.
    assert!((0..600).all(|row| field(row, "discount")[0] > 0.9));

    let eval = sapex(&["eval", run, "--episodes", "3", "--seed", "5", "--json"]).output().unwrap();
    let eval: Value = serde_json::from_slice(&eval.stdout).unwrap();
    for (episode, total) in numbers(&eval["returns"]).into_iter().enumerate() {
        let rows = 200 * episode..200 * (episode + 1);
        let sum: f64 = rows.map(|row| f64::from(field(row, "reward")[0])).sum();
        assert!((sum - total).abs() < 1e-2, "episode {episode}: {sum}, evaluated {total}");
    }

    let Some(seen) = library_reads(&dir.path().join("datasets"), id) else { return };
    assert_eq!((&seen["id"], &seen["listed"]), (&json!(id), &json!([id])));
    assert_eq!((&seen["total_episodes"], &seen["total_steps"]), (&json!(3), &json!(600)));
    assert_eq!(seen["env"], "Pendulum-v1");
    assert_eq!(seen["action_space"], "Box(-2.0, 2.0, (1,), float32)");
    assert_eq!(seen["observation_space"], "Box(-inf, inf, (3,), float32)");
    for (index, episode) in seen["episodes"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&episode["id"], &episode["total_steps"]), (&json!(index), &json!(200)));
        assert_eq!(episode["flag_dtypes"], json!(["bool", "bool"]));
        assert_eq!(
            (&episode["obs_inside"], &episode["actions_inside"]),
            (&json!(true), &json!(true))
        );
        let [obs, actions, rewards] =
            ["observations", "actions", "rewards"].map(|name| numbers(&episode[name]));
        assert_eq!((obs.len(), actions.len(), rewards.len()), (201 * 3, 200, 200));
        let total = eval["returns"][index].as_f64().unwrap();
        assert!((rewards.iter().sum::<f64>() - total).abs() < 1e-9, "episode {index}");
        assert_eq!(numbers(&episode["terminations"]), vec![0.0; 200]);
        let truncations = numbers(&episode["truncations"]);
        assert_eq!(truncations.iter().position(|&flag| flag == 1.0), Some(199));
        for step in 0..200 {
            let row = 200 * index + step;
            for (name, seen) in
                [("obs", &obs[3 * step..][..3]), ("next_obs", &obs[3 * step + 3..][..3])]
            {
                #[expect(clippy::cast_possible_truncation, reason = "they were f32 in the file")]
                let seen: Vec<_> = seen.iter().map(|&x| x as f32).collect();
                assert_eq!(field(row, name), seen, "{name} of episode {index}, step {step}");
            }
            let action = f64::from(field(row, "action")[0]) * 2.0;
            assert!((action - actions[step]).abs() < 1e-6, "episode {index}, step {step}");
        }
    }
}

#[test]
fn discrete_actions_and_whole_images_are_what_the_library_says_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let about = About {
        id: "tests/made-v0".into(),
        algorithm: "none".into(),
        description: "made".into(),
        sapex: json!({ "env": "made" }),
    };
    let mut spec =
        actor_node::env::registry::make("CartPole-v1", &Default::default()).unwrap().spec().clone();
    spec.obs_image = Some([1, 2, 2]);
    let mut dataset = Dataset::new(spec, EnvOrigin::default()).unwrap();
    dataset.push(&MinariEpisode {
        seed: u64::MAX,
        obs: (0..12).map(|i| [0.0, 7.0, 254.0, 255.0][i % 4]).collect(),
        actions: vec![1.0, 0.0],
        rewards: vec![0.5, 1e-300],
        terminated: vec![false, true],
        truncated: vec![false, false],
    });
    let folder = dir.path().join("tests/made-v0");
    fs_err::create_dir_all(&folder).unwrap();
    dataset.write(&folder.join("data"), &about).unwrap();
    let left: Vec<_> =
        fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
    let Some(seen) = library_reads(dir.path(), "tests/made-v0") else { return };
    let episode = &seen["episodes"][0];
    assert_eq!(seen["observation_space"], "Box(0, 255, (1, 2, 2), uint8)");
    assert_eq!(seen["action_space"], "Discrete(2)");
    assert_eq!(episode["obs_dtype"], "uint8");
    let image = json!([[[0, 7], [254, 255]]]);
    assert_eq!(episode["observations"], json!([image, image, image]));
    assert_eq!(episode["actions"], json!([1, 0]));
    assert_eq!(episode["rewards"], json!([0.5, 1e-300]));
    assert_eq!(episode["terminations"], json!([false, true]));
    assert_eq!(episode["seed"], u64::MAX.to_string());
    assert_eq!((&episode["obs_inside"], &episode["actions_inside"]), (&json!(true), &json!(true)));
}

#[test]
fn an_evaluation_is_filmed_and_what_cannot_be_filmed_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "Pendulum-v1");
    let eval = |video: &Path, search_path: &str| {
        let args = ["eval", path.to_str().unwrap(), "--episodes", "2"];
        let args = [&args[..], &["--video", video.to_str().unwrap()]].concat();
        sapex(&args).env("PATH", search_path).output().unwrap()
    };
    let gif = dir.path().join("out.gif");
    let output = eval(&gif, "");
    assert!(output.status.success(), "{}", text(&output));
    let mut decoder =
        gif::DecodeOptions::new().read_info(fs_err::File::open(&gif).unwrap()).unwrap();
    assert_eq!((decoder.width(), decoder.height()), (400, 400));
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!(delays, [5; 201], "one episode of 200 steps of 0.05 s");

    // A fake ffmpeg, which stores its input, replaces the real one.
    let mp4 = dir.path().join("out.mp4");
    let refused = text(&eval(&mp4, ""));
    assert!(
        refused.contains("ffmpeg is not on the PATH") && refused.contains("out.gif"),
        "{refused}"
    );
    let program = dir.path().join("ffmpeg");
    let script = "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\necho \"$@\" > \"$0.args\"\n\
                  for file; do :; done; echo film > \"$file\"\nexec /bin/cat > \"$0.frames\"\n";
    fs_err::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(&program, mode).unwrap();
    let output = eval(&mp4, dir.path().to_str().unwrap());
    assert!(output.status.success(), "{}", text(&output));
    let args = fs_err::read_to_string(dir.path().join("ffmpeg.args")).unwrap();
    assert!(args.contains("-video_size 400x400 -framerate 20.0000"), "{args}");
    assert_eq!(fs_err::read_to_string(&mp4).unwrap(), "film\n", "{args}");
    let frames = fs_err::metadata(dir.path().join("ffmpeg.frames")).unwrap().len();
    assert_eq!(frames, 201 * 400 * 400 * 3);

    let script = "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\n\
                  for file; do :; done; echo broken > \"$file\"; echo no encoder >&2; exit 3\n";
    fs_err::write(&program, script).unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let before = files();
    let failed = text(&eval(&mp4, dir.path().to_str().unwrap()));
    assert!(failed.contains("ffmpeg failed") && failed.contains("no encoder"), "{failed}");
    assert_eq!(fs_err::read_to_string(&mp4).unwrap(), "film\n", "the earlier film stays");
    assert_eq!(files(), before, "a film that failed leaves nothing");

    let other = text(&eval(&dir.path().join("out.avi"), ""));
    assert!(other.contains("expected a name that ends in .gif or .mp4"), "{other}");
}

#[test]
fn environments_of_gymnasium_are_filmed_and_those_without_pictures_refused_on_one_line() {
    let Ok(python) = std::env::var("SAPEX_GYMNASIUM_PYTHON") else {
        return skipped("SAPEX_GYMNASIUM_PYTHON names no Python with Gymnasium");
    };
    let dir = tempfile::tempdir().unwrap();
    let film = |env: &str, name: &str| {
        let folder = dir.path().join(name);
        fs_err::create_dir(&folder).unwrap();
        let path = run_with(&folder, env, &python);
        let gif = folder.join("out.gif");
        let mut eval = sapex(&["eval", path.to_str().unwrap(), "--episodes", "1"]);
        eval.args(["--video", gif.to_str().unwrap()]).env("PYTHONPATH", modules());
        (eval.output().unwrap(), gif)
    };
    let (output, gif) = film("gym:Pendulum-v1", "drawn");
    assert!(output.status.success(), "{}", text(&output));
    let mut decoder =
        gif::DecodeOptions::new().read_info(fs_err::File::open(&gif).unwrap()).unwrap();
    assert_eq!((decoder.width(), decoder.height()), (500, 500));
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        delays.push(frame.delay);
    }
    assert_eq!(delays.len(), 201, "one episode of 200 steps");
    // 30 frames per second. Delays are in whole hundredths of a second.
    assert_eq!(delays.into_iter().map(u32::from).sum::<u32>(), 670);

    let (output, gif) = film("gym:environments:Faulty-v0", "blind");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = "sapex: gym:environments:Faulty-v0: no pictures: its render modes are []";
    assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
    assert!(!gif.exists());
}

#[test]
fn environments_of_gymnasium_are_recorded_with_their_start_bounds_and_spec() {
    let Ok(python) = std::env::var("SAPEX_GYMNASIUM_PYTHON") else {
        return skipped("SAPEX_GYMNASIUM_PYTHON names no Python with Gymnasium");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = run_with(dir.path(), "gym:unlucky:Pick-v0", &python);
    let id = "tests/pick-v0";
    let out = dir.path().join("datasets").join(id);
    let args = ["record", path.to_str().unwrap(), "--episodes", "2", "--sample"];
    let args = [&args[..], &["--dataset-id", id, "--out", out.to_str().unwrap()]].concat();
    let output = sapex(&args).env("PYTHONPATH", modules()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let metadata = fs_err::read(out.join("data/metadata.json")).unwrap();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let space =
        |name: &str| serde_json::from_str::<Value>(metadata[name].as_str().unwrap()).unwrap();
    assert_eq!(
        (&space("action_space")["start"], &space("action_space")["n"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(space("observation_space")["low"], json!([-99.0, -99.0]));
    assert_eq!(space("env_spec")["entry_point"], "unlucky:Pick");

    let resolved = RunDir::open(&path).unwrap().config().unwrap();
    let (spec, config) = (resolved.env_spec().unwrap(), resolved.config);
    assert_eq!(OfflineData::read(&out, &spec, &config).unwrap().len(), 20);
    let Some(seen) = library_reads(&dir.path().join("datasets"), id) else { return };
    assert_eq!(seen["action_space"], "Discrete(3, start=5)");
    let episode = &seen["episodes"][0];
    assert_eq!((&episode["obs_inside"], &episode["actions_inside"]), (&json!(true), &json!(true)));
}

#[test]
fn what_environments_of_gymnasium_say_reaches_the_log_and_the_report() {
    let Ok(python) = std::env::var("SAPEX_GYMNASIUM_PYTHON") else {
        return skipped("SAPEX_GYMNASIUM_PYTHON names no Python with Gymnasium");
    };
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut args = vec!["train", "--env", "gym:unlucky:Reach-v0", "--python", &python];
    args.extend(["--run-dir", run.to_str().unwrap()]);
    for setting in [
        "cluster.hidden=[8]",
        "learner.critic_hidden=[8]",
        "learner.batch_size=8",
        "replay.min_size=20",
        "replay.samples_per_insert=8",
        "actor.warmup_steps=20",
        "evaluator.interval=50ms",
        "run.env_steps=30000",
    ] {
        args.extend(["--set", setting]);
    }
    let output = sapex(&args).env("PYTHONPATH", modules()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let records = learner::run_log::read(&run).unwrap();
    for kind in ["actors", "eval", "final"] {
        let last = records.iter().rfind(|record| record["kind"] == kind).unwrap();
        for (name, value) in [
            ("is_success", 1.0),
            ("reward_time", -0.5),
            ("costs.effort", 2.5),
            ("info.return_mean", 7.0),
            ("return_mean", -2.0),
            ("length_mean", 4.0),
        ] {
            assert_eq!(last[name], value, "{name} of {last:?}");
        }
    }
    let report = fs_err::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("is success") && report.contains("costs.effort"), "in the report");
}

#[test]
fn an_environment_without_a_picture_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "identity");
    let gif = dir.path().join("out.gif");
    let args = ["eval", path.to_str().unwrap(), "--video", gif.to_str().unwrap()];
    let output = sapex(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(said.contains("identity has no picture"), "{said}");
    assert!(!gif.exists());
}

#[test]
#[cfg(feature = "mujoco")]
fn a_mujoco_task_is_filmed_where_there_is_opengl_and_else_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "Reacher-v5");
    let gif = dir.path().join("out.gif");
    let args = ["eval", path.to_str().unwrap(), "--episodes", "1", "--video"];
    let eval = || sapex(&[&args[..], &[gif.to_str().unwrap()]].concat());

    // Files that are not libraries are placed where the loader looks first.
    for name in ["libEGL.so.1", "libEGL.so", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"] {
        fs_err::write(dir.path().join(name), "").unwrap();
    }
    let output = eval().env("LD_LIBRARY_PATH", dir.path()).output().unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(refused.lines().count(), 1, "{refused}");
    for part in ["Reacher-v5: no picture", "no EGL", "no OSMesa", "install libegl1", "libosmesa6"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(!gif.exists());

    let output = eval().output().unwrap();
    if let Some(why) = text(&output).lines().find(|line| line.contains("no EGL")) {
        skipped(why);
        return;
    }
    assert!(output.status.success(), "{}", text(&output));
    let mut decoder =
        gif::DecodeOptions::new().read_info(fs_err::File::open(&gif).unwrap()).unwrap();
    assert_eq!((decoder.width(), decoder.height()), (480, 480));
    let mut frames = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        assert_eq!(frame.delay, 2);
        frames.push(frame.buffer.to_vec());
    }
    assert_eq!(frames.len(), 51, "one episode of 50 steps");
    assert!(frames.windows(2).any(|pair| pair[0] != pair[1]), "the arm never moves");
}
