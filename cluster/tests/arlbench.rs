//! Compares whole runs with runs of ARLBench: the number of updates after a number of rows, and the shapes of the
//! tracked data (testdata/goldens A6). Our runs are in lockstep and start from other random weights, so only counts and
//! shapes are compared.
//!
//! Two columns are not compared. ARLBench updates its targets by environment steps, even before the first update; Sapex
//! updates them every `learner.target_updates` updates. ARLBench's normaliser counts the rows that environments
//! produced, ours the rows that were sampled. docs/algorithms/arlbench.md §2 and docs/algorithms/arlbench.md §3
//! describe both differences.

use common::policy::layout::TensorLayout;
use common::run_dir::RunDir;
use learner::checkpoint::{self, Checkpoint};
use learner::trainer::TrainerConfig;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the parsed golden files of this kind. Fails if there is none.
fn goldens(kind: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens");
    let dir = std::env::var_os("SAPEX_GOLDENS_DIR").map_or(root, PathBuf::from);
    let files = fs_err::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let goldens: Vec<_> = json
        .map(|path| serde_json::from_slice::<Value>(&fs_err::read(path).unwrap()).unwrap())
        .filter(|golden| golden["kind"] == kind)
        .collect();
    assert!(!goldens.is_empty(), "no golden of kind {kind} in {}", dir.display());
    goldens
}

/// Runs SAC with the golden file's counts and sizes for `rows` rows and returns the newest checkpoint. If the run was
/// refused, returns the error output. It does not use the preset, which has the same counts but needs libtorch.
fn run(golden: &Value, rows: u64, dir: &Path, more: &[&str]) -> Result<Checkpoint, String> {
    let (config, hpo) = (&golden["config"], &golden["config"]["hpo"]);
    let whole = |value: &Value| value.as_u64().unwrap();
    let envs = whole(&config["n_envs"]);
    let (batch, freq) = (whole(&hpo["buffer_batch_size"]), whole(&hpo["train_freq"]));
    // Updates start at the first multiple of train_freq above learning_starts, counted in steps of all environments.
    // The block of rows that ends there is followed by the first updates.
    let first = (whole(&hpo["learning_starts"]) / freq) * freq * envs;
    let block = freq * envs;
    let insert = (whole(&hpo["gradient_steps"]) * batch) as f64;
    let samples_per_insert = insert / block as f64;
    // This is the smallest error buffer that works (replay-server, rate_limiter), in whole rows. Sampling may run ahead
    // by that many rows, so it starts that many rows later.
    let smallest = ((insert + batch as f64) / 2.0).max(insert - samples_per_insert);
    let rows_ahead = (smallest / samples_per_insert - 1e-9).ceil();
    let min_size = first + rows_ahead as u64;
    // The added 1e-6 covers rounding, so that the limiter does not hold a sample back.
    let error_buffer = rows_ahead * samples_per_insert + 1e-6;
    let hidden = config["hidden_size"].as_u64().unwrap_or(256);
    let set = [
        format!("run.env_steps={rows}"),
        format!("actor.num_envs={envs}"),
        format!("cluster.hidden=[{hidden}, {hidden}]"),
        format!("learner.critic_hidden=[{hidden}, {hidden}]"),
        format!("replay.capacity={}", hpo["buffer_size"]),
        format!("replay.min_size={min_size}"),
        format!("replay.error_buffer={error_buffer:?}"),
        format!("actor.insert_rows={block}"),
        format!("replay.samples_per_insert={samples_per_insert:?}"),
        format!("learner.batch_size={batch}"),
        "actor.warmup_steps=0".to_owned(),
        "evaluator.final_episodes=1".to_owned(),
    ];
    let run = dir.join(rows.to_string());
    let output = Command::new(env!("CARGO_BIN_EXE_sapex"))
        .args(["train", "--lockstep", "--env", "Pendulum-v1"])
        .arg("--run-dir")
        .arg(&run)
        .args(set.iter().flat_map(|set| ["--set", set]))
        .args(more)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let resolved = RunDir::open(&run).unwrap().config().unwrap();
    let sac = TrainerConfig::new(&resolved.config, &resolved.env_spec().unwrap());
    let newest = checkpoint::newest(&run.join("checkpoints")).unwrap().unwrap();
    Ok(checkpoint::load(&newest, &sac).unwrap())
}

#[test]
fn as_many_updates_follow_the_rows_as_in_the_original() {
    for golden in goldens("arlbench_update_schedule") {
        let dir = tempfile::tempdir().unwrap();
        for step in golden["outputs"]["update_steps"].as_array().unwrap() {
            // The index into the buffer cannot be used, because it restarts when the buffer is full.
            let envs = golden["config"]["n_envs"].as_u64().unwrap();
            let rows = step["global_step"].as_u64().unwrap() * envs;
            let updates = match run(&golden, rows, dir.path(), &[]) {
                Ok(checkpoint) => checkpoint.state.updates,
                Err(said) if said.contains("no update comes before replay.min_size") => 0,
                Err(said) => panic!("{said}"),
            };
            assert_eq!(updates, step["adam_count"].as_u64().unwrap(), "after {rows} rows");
        }
    }
}

/// Returns the sorted shapes of a tree of arrays without their `leading` axes. Kernels (in, out) become (out, in).
fn shapes(tree: &Value, leading: usize) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = match tree {
        Value::Object(children) => {
            children.values().flat_map(|child| shapes(child, leading)).collect()
        }
        axes => vec![list(axes)[leading..].iter().rev().copied().collect()],
    };
    found.sort();
    found
}

fn list(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Returns the shape of nested lists. All lists of one level must have the same shape.
fn shape(value: &Value) -> Vec<usize> {
    let Some(values) = value.as_array() else { return Vec::new() };
    let inner = shape(&values[0]);
    assert!(values.iter().all(|other| shape(other) == inner));
    [vec![values.len()], inner].concat()
}

/// Returns the parsed lines of a file in the run directory.
fn lines(run: &Path, name: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(run.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_tracked_has_the_originals_shapes_a_record_per_update_per_turn_and_per_episode() {
    for golden in goldens("arlbench_train_shapes") {
        let (dir, expected) = (tempfile::tempdir().unwrap(), &golden["outputs"]);
        let rows = expected["buffer_index"].as_u64().unwrap();
        let tracked = ["--set", "run.track_metrics=true", "--set", "run.track_trajectories=true"];
        let checkpoint = run(&golden, rows, dir.path(), &tracked).unwrap();
        let run = dir.path().join(rows.to_string());

        let td_error = list(&expected["metrics"]["td_error"]);
        let blocks: Vec<u64> =
            serde_json::from_value(expected["updates_done"]["data"].clone()).unwrap();
        let updates = lines(&run, "track_metrics.jsonl");
        assert_eq!(updates.len(), blocks.iter().sum::<u64>() as usize * td_error[2]);
        assert_eq!(checkpoint.state.updates, updates.len() as u64);
        for update in &updates {
            for loss in ["actor_loss", "critic_loss", "alpha_loss"] {
                assert_eq!(list(&expected["metrics"][loss]), td_error[..3]);
                assert!(update[loss].is_f64(), "{loss} {}", update[loss]);
            }
            assert_eq!(update["td_error"].as_array().unwrap().len(), td_error[3]);
        }

        let turns = lines(&run, "trajectories-actor-0.jsonl");
        for name in ["obs", "action", "reward", "done"] {
            let original = list(&expected["trajectories"][name]);
            let (blocks, one_turn) = original.split_at(3);
            assert_eq!(turns.len(), blocks.iter().product::<usize>(), "{name}");
            assert!(turns.iter().all(|turn| shape(&turn[name]) == one_turn), "{name}");
        }
        for episode in lines(&run, "trajectories.jsonl") {
            let steps = shape(&episode["reward"])[0];
            for name in ["obs", "action", "reward", "done"] {
                let original = list(&expected["trajectories"][name]);
                assert_eq!(shape(&episode[name]), [&[steps], &original[4..]].concat(), "{name}");
            }
        }

        let resolved = RunDir::open(&run).unwrap().config().unwrap();
        let sac = TrainerConfig::new(&resolved.config, &resolved.env_spec().unwrap());
        let sorted = |layout: &TensorLayout| {
            let mut shapes: Vec<_> = layout.entries.iter().map(|it| it.shape.clone()).collect();
            shapes.sort();
            shapes
        };
        assert_eq!(sorted(&sac.policy.tensor_layout()), shapes(&expected["grads"]["actor"], 3));
        assert_eq!(sorted(&sac.critic.tensor_layout()), shapes(&expected["grads"]["critic"], 4));
        assert_eq!(
            checkpoint.state.critics.params.len(),
            2 * sac.critic.tensor_layout().parameters
        );
    }
}
