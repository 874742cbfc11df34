//! Exported policies compute the same as ours: every body with every head, one row and several rows, over some steps.
//!
//! The test always evaluates ONNX files, with its own simple interpreter. With the feature `torch`, libtorch loads
//! every TorchScript archive. If `SAPEX_EXPORT_PYTHON` names a Python with the packages of
//! `bench/requirements-export.txt` (`make test-python`), the real onnxruntime loads every file too, and so does
//! torch.jit if torch is installed.

#![expect(clippy::print_stdout, reason = "a failure names its seed")]

mod cases;
mod runtime;

use cases::{Case, cases};
use cluster::export::graph::Graph;
use cluster::export::policy::{Policy, Variant};
use cluster::export::{onnx, torchscript};
use common::policy::arch::Body;
use common::policy::infer::PolicyNet;
use common::policy::snapshot::PolicySnapshot;
use rand::SeedableRng as _;
use rand_pcg::Pcg64;
use runtime::Model;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Number of steps of each run. Recurrent policies carry their state through the steps.
const STEPS: usize = 3;
/// Largest error of any output, relative for values above 1.
const TOLERANCE: f32 = 1e-5;
const SEED: u64 = 20;

/// Columns and elements of each input, by name.
type Inputs = BTreeMap<&'static str, (usize, Vec<f32>)>;

/// Inputs of one step, and the expected outputs.
struct Step {
    /// All inputs but `state`, which is the previous step's `next_state`.
    inputs: Inputs,
    /// `action`, and `next_state` if the policy has a state.
    outputs: BTreeMap<&'static str, Vec<f32>>,
}

/// Runs our own inference.
fn run(case: &Case, variant: Variant, rows: usize, rng: &mut Pcg64) -> Vec<Step> {
    let arch = &case.arch;
    let mut net = PolicyNet::new(arch).unwrap();
    net.set_weights(&case.weights).unwrap();
    let mut state = vec![0.0; rows * net.state_dim()];
    let steps = (0..STEPS).map(|_| {
        let obs = case.observations(rows, rng);
        let mut action = vec![0.0; rows * arch.action_width()];
        let mut inputs = BTreeMap::new();
        if variant == Variant::Sampler {
            assert_eq!(case.policy().noise_width(), net.noise_width(), "{}", case.name);
            let noise = cases::noise(rows * net.noise_width(), net.noise_is_uniform(), rng);
            net.sample(&obs, &mut state, &noise, &mut action);
            inputs.insert("noise", (net.noise_width(), noise));
        } else if let Body::BatchConstrained { .. } = arch.body {
            let noise = case.policy().fixed_noise().repeat(rows);
            net.sample(&obs, &mut state, &noise, &mut action);
        } else {
            net.mode(&obs, &mut state, &mut action);
        }
        inputs.insert("obs", (arch.obs_dim, obs));
        if !case.scale.is_empty() {
            for (i, action) in action.iter_mut().enumerate() {
                let i = i % arch.act_dim;
                *action = *action * case.scale[i] + case.bias[i];
            }
        }
        let mut outputs = BTreeMap::from([("action", action)]);
        if !state.is_empty() {
            outputs.insert("next_state", state.clone());
        }
        Step { inputs, outputs }
    });
    steps.collect()
}

fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let error = |(a, b): (&f32, &f32)| (a - b).abs() / a.abs().max(1.0);
    // f32::max is not used, because it ignores NaN.
    ours.iter().zip(theirs).map(error).fold(0.0, |a, b| if b <= a { a } else { b })
}

/// Returns the export variants that a policy has.
fn variants(policy: &Policy<'_>) -> Vec<Variant> {
    let draws = policy.noise_width() > 0;
    [Variant::Mode, Variant::Sampler].into_iter().take(1 + usize::from(draws)).collect()
}

/// Evaluates one exported policy: takes the number of rows and the inputs by name, returns the outputs by name.
type Runtime = Box<dyn Fn(usize, &Inputs) -> BTreeMap<String, Vec<f32>>>;

/// Compares every policy in a runtime, which is made from the policy's graph, with our own inference.
fn compare(runtime: impl Fn(&Graph) -> Runtime) {
    println!("seed {SEED}");
    let mut rng = Pcg64::seed_from_u64(SEED);
    for case in cases(&mut rng) {
        for variant in variants(&case.policy()) {
            let exported = runtime(&case.policy().graph(variant));
            for rows in [1, 5] {
                let mut state = vec![0.0; rows * case.arch.state_dim()];
                for (i, step) in run(&case, variant, rows, &mut rng).iter().enumerate() {
                    let mut inputs = step.inputs.clone();
                    if !state.is_empty() {
                        inputs.insert("state", (case.arch.state_dim(), state));
                    }
                    let mut outputs = exported(rows, &inputs);
                    for (&name, ours) in &step.outputs {
                        let error = worst(ours, &outputs[name]);
                        assert!(
                            error <= TOLERANCE,
                            "{} {variant:?}, {rows} rows, step {i}: {name} differs by {error:e}",
                            case.name
                        );
                    }
                    state = outputs.remove("next_state").unwrap_or_default();
                }
            }
        }
    }
}

#[test]
fn every_body_with_every_head_computes_the_same_in_onnx() {
    compare(|graph| {
        let model = Model::decode(&onnx::encode(graph, &[]));
        Box::new(move |rows, inputs| model.run(rows, inputs))
    });
}

#[cfg(feature = "torch")]
#[test]
fn every_body_with_every_head_computes_the_same_in_libtorch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.pt");
    compare(|graph| {
        std::fs::write(&path, torchscript::encode(graph)).unwrap();
        let script = learner::torch::script::Script::load(&path).unwrap();
        let given: Vec<&str> = graph.inputs().map(|(name, _)| name).collect();
        let names: Vec<String> = graph.outputs.iter().map(|o| o.name.to_owned()).collect();
        Box::new(move |rows, inputs| {
            let inputs: Vec<&[f32]> = given.iter().map(|name| &inputs[name].1[..]).collect();
            names.iter().cloned().zip(script.run(rows, &inputs).unwrap()).collect()
        })
    });
}

/// Writes all policies in both formats, and the expected outputs in the form that `check.py` reads.
fn write(dir: &Path) {
    let mut rng = Pcg64::seed_from_u64(SEED);
    let mut expected = Vec::new();
    for case in cases(&mut rng) {
        for variant in variants(&case.policy()) {
            let name = format!("{}-{variant:?}", case.name);
            let graph = case.policy().graph(variant);
            std::fs::write(dir.join(format!("{name}.onnx")), onnx::encode(&graph, &[])).unwrap();
            std::fs::write(dir.join(format!("{name}.pt")), torchscript::encode(&graph)).unwrap();
            let runs: Vec<Value> = [1, 5]
                .into_iter()
                .map(|rows| {
                    let steps = run(&case, variant, rows, &mut rng);
                    let steps = steps.iter().map(|step| {
                        let inputs = step.inputs.iter().map(|(name, (_, values))| (name, values));
                        json!({
                            "inputs": inputs.collect::<BTreeMap<_, _>>(),
                            "outputs": step.outputs,
                        })
                    });
                    json!({ "rows": rows, "steps": steps.collect::<Vec<_>>() })
                })
                .collect();
            expected.push(json!({
                "name": name,
                "state_dim": case.arch.state_dim(),
                "discrete": case.scale.is_empty(),
                "runs": runs,
            }));
        }
    }
    let expected = json!({ "tolerance": TOLERANCE, "cases": expected });
    std::fs::write(dir.join("expected.json"), expected.to_string()).unwrap();
}

#[test]
fn onnxruntime_and_torch_load_every_export_and_compute_the_same() {
    let Some(python) = std::env::var_os("SAPEX_EXPORT_PYTHON") else {
        // Bypass the output capture of the test harness: a skipped test must be visible.
        writeln!(
            std::io::stderr(),
            "SKIPPED: SAPEX_EXPORT_PYTHON names no Python with onnxruntime (bench/requirements-export.txt)"
        )
        .unwrap();
        return;
    };
    println!("seed {SEED}");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export/check.py");
    let output = Command::new(python).arg(check).arg(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// Trains a short run with one actor and checks the files and the output of `sapex export`.
#[test]
fn sapex_export_writes_each_format_with_a_description_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let sapex = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let short = "run.env_steps=300 replay.min_size=100 actor.warmup_steps=100 \
                 evaluator.final_episodes=1";
    let set = short.split_whitespace().flat_map(|assignment| ["--set", assignment]);
    let train = ["train", "--env", "Pendulum-v1", "--lockstep", "--run-dir"];
    let run = path.to_str().unwrap();
    sapex(&train.into_iter().chain([run]).chain(set).collect::<Vec<_>>());
    for (format, files) in [
        ("safetensors", &["policy.safetensors", "policy.json"][..]),
        ("onnx", &["policy.onnx", "policy.json"]),
        ("torchscript", &["policy.pt", "policy-sampler.pt", "policy.json"]),
    ] {
        let said = sapex(&["export", run, "--format", format]);
        let said: Vec<_> = said.lines().map(Path::new).collect();
        assert_eq!(said, files.iter().map(|file| path.join(file)).collect::<Vec<_>>());
        said.iter().for_each(|file| assert!(file.exists(), "{format}: {}", file.display()));
        let text = std::fs::read_to_string(path.join("policy.json")).unwrap();
        let description: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(description["environment"], "Pendulum-v1");
        assert_eq!(description["action_scale"], json!([2.0]));
        assert_eq!(description["inputs"][0]["shape"], json!(["N", 3]));
        std::fs::remove_file(path.join("policy.json")).unwrap();
    }
    let args = ["export", run, "--format", "onnx", "--out", "policy.json"];
    let output = Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is for the description"), "{said}");

    let (snapshot, arch) = PolicySnapshot::load(&path.join("policy.safetensors")).unwrap();
    let mut net = PolicyNet::new(&arch).unwrap();
    net.set_weights(&snapshot.weights).unwrap();
    let (obs, mut action) = (vec![0.6, -0.8, 1.5], [0.0]);
    net.mode(&obs, &mut [], &mut action);
    let model = Model::decode(&std::fs::read(path.join("policy.onnx")).unwrap());
    let outputs = model.run(1, &BTreeMap::from([("obs", (3, obs))]));
    let error = worst(&[2.0 * action[0]], &outputs["action"]);
    assert!(error <= TOLERANCE, "the exported policy differs by {error:e}");
}
