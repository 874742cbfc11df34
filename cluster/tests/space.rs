//! Configuration spaces: they equal ARLBench's, as the ConfigSpace library writes them, and their values start runs.

use cluster::space::document::Library;
use cluster::space::presets::{Kind, settings, space};
use cluster::space::{ChosenValues, Domain, SearchSpace};
use common::runtime::seed::SeedTree;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns the kind and the whole document of every golden file of spaces.
fn cases() -> Vec<(Kind, Value)> {
    let folder = std::env::var_os("SAPEX_GOLDENS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens"),
        PathBuf::from,
    );
    let files = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let documents = json
        .map(|path| serde_json::from_str::<Value>(&fs_err::read_to_string(path).unwrap()).unwrap());
    let cases: Vec<_> = documents
        .filter(|case| case["kind"] == "configspace")
        .map(|case| match case["config"]["space"].as_str().unwrap() {
            "hpo" => (Kind::Hpo, case),
            "nas" => (Kind::Nas, case),
            other => panic!("a space that is not here: {other}"),
        })
        .collect();
    assert!(!cases.is_empty(), "no spaces in {}", folder.display());
    cases
}

/// Returns the default configuration, as the library makes it.
fn defaults(kind: Kind) -> ChosenValues {
    let (_, case) = cases().into_iter().find(|(it, _)| *it == kind).unwrap();
    case["outputs"]["default"].as_object().unwrap().clone()
}

#[test]
fn the_spaces_are_the_documents_of_the_library_in_both_of_its_forms() {
    for (kind, case) in cases() {
        let ours = space(kind);
        ours.validate().unwrap();
        for (library, golden) in
            [(Library::V0, "configspace_json"), (Library::V1, "configspace_json_1_2_1")]
        {
            let golden = &case["outputs"][golden];
            assert_eq!(&ours.to_document(library), golden, "{kind:?} {library:?}");
            assert_eq!(SearchSpace::from_document(golden).unwrap(), ours, "{kind:?} {library:?}");
        }
        ours.check(&defaults(kind)).unwrap();
    }
}

#[test]
fn what_the_library_takes_is_in_the_space_and_what_it_refuses_is_not() {
    for (kind, case) in cases() {
        let space = space(kind);
        let verdicts = case["outputs"]["validity"].as_array().unwrap();
        let inputs = case["inputs"]["validity"].as_array().unwrap();
        assert_eq!(inputs.len(), verdicts.len());
        for (input, verdict) in inputs.iter().zip(verdicts) {
            let mut values = defaults(kind);
            for (name, value) in input["changes"].as_object().unwrap() {
                if value == "__drop__" {
                    values.remove(name);
                } else {
                    values.insert(name.clone(), value.clone());
                }
            }
            let checked = space.check(&values);
            assert_eq!(checked.is_ok(), verdict["valid"] == true, "{input}: {checked:?}");
        }
        for sample in case["outputs"]["samples"].as_array().unwrap() {
            space.check(sample.as_object().unwrap()).unwrap();
        }
    }
}

#[test]
fn a_value_outside_names_itself_and_its_range() {
    let space = space(Kind::Hpo);
    for (changes, said) in [
        (json!({"gamma": 1.5}), "gamma = 1.5: must be in [0.8, 1.0]"),
        (json!({"train_freq": 1.5}), "train_freq = 1.5: must be a whole number in 1..=128"),
        (
            json!({"buffer_batch_size": 100}),
            "buffer_batch_size = 100: must be one of 64, 128, 256, 512",
        ),
        (
            json!({"use_target_network": false}),
            "target_update_interval = 1000: must be absent unless use_target_network = true",
        ),
        (json!({"alpha": null}), "alpha has no value: must be in [0.0, 1.0]"),
        (json!({"reward_scale": 1}), "reward_scale = 1: unknown, the parameters are alpha "),
    ] {
        let mut values = defaults(Kind::Hpo);
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                values.remove(name);
            } else {
                values.insert(name.clone(), value.clone());
            }
        }
        let text = space.check(&values).unwrap_err().to_string();
        assert!(text.starts_with(said), "{text}");
    }
}

const DRAWS: usize = 4_000;

#[test]
#[expect(clippy::cast_precision_loss, reason = "few draws")]
fn draws_lie_in_the_space_and_cover_it_evenly() {
    for kind in [Kind::Hpo, Kind::Nas] {
        let space = space(kind);
        let mut rng = SeedTree::new(7).role("space").rng();
        let draws: Vec<ChosenValues> = (0..DRAWS).map(|_| space.sample(&mut rng)).collect();
        for values in &draws {
            space.check(values).unwrap();
        }
        for parameter in &space.parameters {
            let values: Vec<&Value> =
                draws.iter().filter_map(|values| values.get(&parameter.name)).collect();
            // The mean of n uniform numbers in [0, 1] must be within 5 standard deviations of 1/2.
            let share = |x: &Value| match &parameter.domain {
                Domain::Float { lower, upper, log: true, .. } => {
                    (x.as_f64().unwrap() / lower).ln() / (upper / lower).ln()
                }
                Domain::Float { lower, upper, .. } => {
                    (x.as_f64().unwrap() - lower) / (upper - lower)
                }
                Domain::Int { lower, upper, .. } => {
                    (x.as_i64().unwrap() - lower) as f64 / (upper - lower) as f64
                }
                Domain::Categorical { choices, .. } => {
                    let place = choices.iter().position(|choice| choice == x).unwrap();
                    place as f64 / (choices.len() - 1) as f64
                }
            };
            let mean = values.iter().map(|x| share(x)).sum::<f64>() / values.len() as f64;
            let deviation = 0.5 / (values.len() as f64).sqrt();
            assert!((mean - 0.5).abs() < 5.0 * deviation, "{}: {mean}", parameter.name);
        }
    }
}

#[test]
fn draws_follow_from_the_seed_and_whole_numbers_reach_both_bounds() {
    let draw = |seed| space(Kind::Hpo).sample(&mut SeedTree::new(seed).rng());
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    for log in [false, true] {
        let small = space(Kind::Nas)
            .edited("space.hidden_size.default=3")
            .and_then(|space| space.edited("space.hidden_size.upper=3"))
            .and_then(|space| space.edited(&format!("space.hidden_size.log={log}")))
            .unwrap();
        let mut rng = SeedTree::new(1).rng();
        let drawn: std::collections::BTreeSet<i64> =
            (0..200).map(|_| small.sample(&mut rng)["hidden_size"].as_i64().unwrap()).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 2, 3], "log {log}");
    }
}

#[test]
fn a_space_is_edited_by_parameter_and_field_and_stays_one() {
    let hpo = space(Kind::Hpo);
    let wide = hpo.edited("space.tau.lower=0.001").unwrap();
    assert_eq!(wide.to_document(Library::V0)["hyperparameters"][16]["lower"], json!(0.001));
    let choices = hpo.edited("space.buffer_batch_size.choices=[256, 1024]").unwrap();
    assert_ne!(choices, hpo);
    for (assignment, said) in [
        ("space.tau.lower=2", "tau: has nothing to choose from: in [2.0, 1.0]"),
        ("space.tau.default=3", "tau: default 3.0 must be in [0.01, 1.0]"),
        ("space.alpha.log=true", "alpha: has no logarithm where it is 0 or below"),
        ("space.tau.lower=low", "--set space.tau.lower=low: invalid type: string \"low\""),
        ("space.tauu.lower=1", "tauu = 1: unknown, the parameters are alpha"),
        ("space.tau.weights=1", "--set space.tau.weights=1: expected space.NAME.FIELD=VALUE"),
        ("tau.lower=1", "--set tau.lower=1: expected space.NAME.FIELD=VALUE"),
        ("space.alpha_auto.lower=1", "--set space.alpha_auto.lower=1: expected"),
        (
            "space.use_target_network.choices=[false]",
            "use_target_network: default true must be one of false",
        ),
    ] {
        let text = hpo.edited(assignment).unwrap_err().to_string();
        assert!(text.starts_with(said), "{text}");
    }
}

#[test]
fn documents_that_hold_more_than_a_space_can_are_refused() {
    let document = space(Kind::Hpo).to_document(Library::V0);
    for (pointer, value) in [
        ("/forbiddens", json!([{"name": "tau"}])),
        ("/conditions/0/type", json!("GT")),
        ("/conditions/0/parent", json!("tau")),
        ("/conditions/0/value", json!("maybe")),
        ("/hyperparameters/0/q", json!(0.1)),
        ("/hyperparameters/1/weights", json!([0.1, 0.9])),
        ("/hyperparameters/0/type", json!("normal_float")),
        ("/hyperparameters/0/name", json!("tau")),
    ] {
        let mut other = document.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(SearchSpace::from_document(&other).is_err(), "{pointer}");
    }
}

fn changed(changes: Value) -> ChosenValues {
    let mut values = defaults(Kind::Hpo);
    values.extend(changes.as_object().unwrap().clone());
    values
}

#[test]
fn values_become_settings_and_points_that_cannot_run_are_refused() {
    let set = settings(&changed(json!({
        "buffer_batch_size": 64, "gradient_steps": 2, "train_freq": 4, "learning_rate": 1e-3,
        "target_update_interval": 100, "tau": 0.5, "buffer_prio_sampling": true,
        "learning_starts": 1000, "buffer_size": 500, "activation": "relu", "hidden_size": 32,
    })))
    .unwrap();
    for expected in [
        "replay.samples_per_insert=32.0",
        "replay.selector=\"prioritized\"",
        "replay.capacity=500",
        "replay.min_size=500",
        "learner.lr_alpha=0.001",
        "learner.target_updates=50",
        "learner.tau=0.5",
        "cluster.hidden=[32, 32]",
        "learner.critic_hidden=[32, 32]",
        "cluster.activation=\"relu\"",
    ] {
        assert!(set.iter().any(|assignment| assignment == expected), "{expected} not in {set:?}");
    }
    let mut without = changed(json!({"use_target_network": false}));
    without.remove("tau");
    without.remove("target_update_interval");
    let set = settings(&without).unwrap();
    assert!(set.contains(&"learner.tau=1.0".to_owned()), "{set:?}");
    assert!(set.contains(&"learner.target_updates=1".to_owned()), "{set:?}");
    settings(&changed(json!({"alpha": 0, "alpha_auto": false}))).unwrap();
    let set = settings(&changed(json!({"buffer_batch_size": 512.0}))).unwrap();
    assert!(set.contains(&"learner.batch_size=512".to_owned()), "{set:?}");
    for (changes, said) in [
        (json!({"alpha": 0.0}), "alpha = 0.0: must be above 0 where alpha_auto = true"),
        (json!({"buffer_size": 1}), "buffer_size = 1: must be at least buffer_batch_size = 256"),
        (json!({"hidden_size": 32}), "activation has no value: must be one of \"tanh\", \"relu\""),
    ] {
        assert_eq!(settings(&changed(changes)).unwrap_err().to_string(), said);
    }
    let nothing = settings(&ChosenValues::new()).unwrap_err().to_string();
    assert_eq!(nothing, "alpha has no value: must be in [0.0, 1.0]");
}

fn sapex(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sapex")).args(args).output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let text = text.concat();
    (output, text)
}

#[test]
fn every_draw_is_a_start_or_is_refused_by_name() {
    let (output, text) = sapex(&["space", "hpo", "--sample", "8", "--seed", "5"]);
    assert!(output.status.success() && text.lines().count() == 8, "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    let start = |values: &str| {
        std::fs::write(&file, values).unwrap();
        sapex(&["train", "--space-values", file.to_str().unwrap(), "--print-config"])
    };
    for line in text.lines() {
        let (output, said) = start(line);
        assert!(output.status.success(), "{line}: {said}");
        let values: Value = serde_json::from_str(line).unwrap();
        assert!(said.contains("init = \"orthogonal\" # preset arlbench"), "{said}");
        assert!(said.contains(&format!("batch_size = {}", values["buffer_batch_size"])), "{said}");
    }
    let (output, said) = start(&Value::from(changed(json!({"gamma": 2}))).to_string());
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("values.json: gamma = 2: must be in [0.8, 1.0]"), "{said}");
    let (output, said) = sapex(&["space", "nas", "--preset", "lac"]);
    assert!(!output.status.success() && said.contains("expected arlbench"), "{said}");
}

/// Python script that reads both documents of each pair with the library and compares the resulting spaces.
const COMPARE: &str = r"
import sys, json, warnings
warnings.simplefilter('ignore')
import ConfigSpace
def space(path):
    if new:
        return ConfigSpace.ConfigurationSpace.from_json(path)
    from ConfigSpace.read_and_write import json as form
    return form.read(open(path).read())
new = hasattr(ConfigSpace.ConfigurationSpace, 'from_json')
if not new and 'format_version' in json.load(open(sys.argv[1])):
    print('SKIPPED: ConfigSpace', ConfigSpace.__version__, 'is older than this form of documents')
    sys.exit(0)
ours, original = map(space, sys.argv[1:3])
assert ours == original, 'not equal'
assert len(ours) > 0 and list(ours) == list(original)
for name in ours:
    a, b = ours[name], original[name]
    assert a == b and a.default_value == b.default_value, name
    assert getattr(a, 'log', None) == getattr(b, 'log', None), name
conditions = lambda s: [str(c) for c in (s.get_conditions() if hasattr(s, 'get_conditions') else s.conditions)]
assert conditions(ours) == conditions(original)
for line in open(sys.argv[3]):
    ConfigSpace.Configuration(ours, values=json.loads(line))
print('equal', ConfigSpace.__version__)
";

#[test]
fn the_library_reads_our_documents_as_it_reads_its_own_and_takes_our_draws() {
    let Some(python) = std::env::var_os("SAPEX_CONFIGSPACE_PYTHON") else {
        // Bypass the output capture of the test harness: a skipped test must be visible.
        writeln!(
            std::io::stderr(),
            "SKIPPED: SAPEX_CONFIGSPACE_PYTHON names no Python with ConfigSpace (bench/requirements-configspace.txt)"
        )
        .unwrap();
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (kind, case) in cases() {
        let space = space(kind);
        let mut rng = SeedTree::new(11).rng();
        let draws: String =
            (0..50).map(|_| Value::from(space.sample(&mut rng)).to_string() + "\n").collect();
        let draws = write("draws.jsonl", draws);
        for (library, golden) in
            [(Library::V0, "configspace_json"), (Library::V1, "configspace_json_1_2_1")]
        {
            let ours = write("ours.json", space.to_document(library).to_string());
            let original = write("original.json", case["outputs"][golden].to_string());
            let paths = [&ours, &original, &draws];
            let ran = Command::new(&python).args(["-c", COMPARE]).args(paths).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            print!("{}", String::from_utf8_lossy(&ran.stdout));
            assert!(ran.status.success(), "{kind:?} {library:?}: {said}");
        }
    }
}
