//! Checkpoint files keep every bit. Any damage is detected, and files that do not fit are refused with the difference.

use common::ids::PolicyVersion;
use common::policy::arch::{Activation, Body, Head, LogStd};
use common::policy::snapshot::PolicySnapshot;
use common::runtime::clock::VirtualTime;
use common::runtime::seed::SavedRng;
use learner::checkpoint::{Checkpoint, Contents, load, newest, prune, save};
use learner::init::train_state;
use learner::trainer::{Normaliser, ParamGroup, TrainState, TrainerConfig};
use rand::RngExt as _;
use rand_pcg::Pcg64;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seed of all random numbers in this file.
const SEED: u128 = 20_261_121;

/// Returns a configuration with different widths everywhere, and with everything that a Lyapunov actor-critic may have.
fn config() -> TrainerConfig {
    crate::configured::trainer(
        "latc",
        &[
            "cluster.hidden=[5, 4]",
            "cluster.normalise_obs=true",
            "learner.critic_hidden=[4, 6]",
            "learner.target_actor=copy",
        ],
    )
}

/// Returns every flat vector of a state with its name.
fn vectors(state: &mut TrainState) -> Vec<(&'static str, &mut Vec<f32>)> {
    let TrainState { actor, target_actor, critics, targets, vae, log_alpha, log_lambda, .. } =
        state;
    let mut all = vec![("target", targets), ("target_actor", target_actor)];
    for (name, group) in [
        ("actor", actor),
        ("critic", critics),
        ("vae", vae),
        ("log_alpha", log_alpha),
        ("log_lambda", log_lambda),
    ] {
        let ParamGroup { params, adam_m, adam_v } = group;
        all.extend([(name, params), (name, adam_m), (name, adam_v)]);
    }
    all.retain(|(_, values)| !values.is_empty());
    all
}

fn bits(state: &TrainState) -> Vec<Vec<u32>> {
    let mut state = state.clone();
    let vectors = vectors(&mut state);
    vectors.iter().map(|(_, values)| values.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Returns a finite number with random bits, including subnormal, huge and negative zero numbers.
fn any_finite(rng: &mut Pcg64) -> f32 {
    loop {
        let value = match rng.random_range(0..8) {
            0 => -0.0,
            1 => f32::from_bits(rng.random_range(1..0x0080_0000)),
            _ => f32::from_bits(rng.random()),
        };
        if value.is_finite() {
            return value;
        }
    }
}

fn checkpoint(updates: u64) -> Checkpoint {
    let mut rng = Pcg64::new(SEED, 1);
    let mut state = train_state(&config(), &mut rng);
    state.updates = updates;
    for (_, values) in vectors(&mut state) {
        values.iter_mut().for_each(|value| *value = any_finite(&mut rng));
    }
    let Normaliser { count, mean, summed_variance } = state.normaliser.as_mut().unwrap();
    for value in std::iter::once(count).chain(mean).chain(summed_variance) {
        *value = f64::from(any_finite(&mut rng)) / 3.0; // digits that f32 does not have
    }
    Checkpoint {
        state,
        policy_version: PolicyVersion(u64::MAX),
        counters: BTreeMap::from([("env_steps".into(), u64::MAX), ("samples".into(), 0)]),
        generators: BTreeMap::from([("noise".into(), SavedRng::save(&rng))]),
        losses: BTreeMap::from([("actor_loss".into(), -0.1), ("alpha_loss".into(), 1e-300)]),
    }
}

fn saved(dir: &Path, checkpoint: &Checkpoint) -> PathBuf {
    let clock = VirtualTime::starting_at(Duration::from_secs(1_700_000_000)).clock();
    save(dir, checkpoint, &config(), &Contents::default(), "[run]\nseed = 1\n", &clock).unwrap()
}

fn refusal(path: &Path, config: &TrainerConfig) -> String {
    load(path, config).unwrap_err().to_string()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_bit_of_every_finite_number_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let written = checkpoint(20_000);
    let path = saved(dir.path(), &written);
    assert!(path.ends_with("update-000000020000"));
    assert_eq!(
        names(&path),
        ["config.toml", "manifest.json", "policy.safetensors", "state.safetensors"]
    );
    let read = load(&path, &config()).unwrap();
    assert_eq!(bits(&read.state), bits(&written.state), "seed {SEED}");
    assert_eq!(read, written, "seed {SEED}");
}

#[test]
fn one_changed_bit_anywhere_or_a_missing_end_is_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), &checkpoint(7));
    let mut rng = Pcg64::new(SEED, 2);
    for name in names(&path) {
        let file = path.join(&name);
        let whole = std::fs::read(&file).unwrap();
        // Every byte of the manifest, which has to detect its own damage. About a hundred bytes of each other file.
        let step = if name == "manifest.json" { 1 } else { whole.len() / 100 + 1 };
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            let bit = rng.random_range(0..8);
            damaged[at] ^= 1 << bit;
            std::fs::write(&file, &damaged).unwrap();
            let error = refusal(&path, &config());
            assert!(
                error.contains(&name),
                "bit {bit} of byte {at} of {name}, seed {SEED}: {error}"
            );
            std::fs::write(&file, &whole[..at]).unwrap();
            let error = refusal(&path, &config());
            assert!(error.contains(&name), "{name} cut at {at}: {error}");
        }
        let longer = [whole.as_slice(), b"\n"].concat();
        std::fs::write(&file, longer).unwrap();
        assert!(refusal(&path, &config()).contains(&name), "{name} with a line more");
        std::fs::remove_file(&file).unwrap();
        assert!(refusal(&path, &config()).contains(&name), "{name} removed");
        std::fs::write(&file, &whole).unwrap();
        load(&path, &config()).unwrap();
    }
}

#[test]
fn networks_of_the_same_shapes_that_compute_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), &checkpoint(7));
    let mut tanh = config();
    let Body::Mlp(mlp) = &mut tanh.policy.body else { panic!("a perceptron") };
    mlp.activation = Activation::Tanh;
    let error = refusal(&path, &tanh);
    assert!(error.contains("manifest.json does not fit the configuration: policy"), "{error}");
    assert!(error.contains("activation: Relu") && error.contains("activation: Tanh"), "{error}");
    let mut clamped = config();
    let log_std = LogStd::Conditioned { min: -5.0, max: 2.0 };
    clamped.policy.head = Head::Gaussian { log_std, mean_bound: None };
    assert!(refusal(&path, &clamped).contains("min: -5.0"));
    let mut critic = config();
    let Body::Mlp(mlp) = &mut critic.critic.body else { panic!("a perceptron") };
    mlp.activation = Activation::Tanh;
    assert!(refusal(&path, &critic).contains("critic is Critic"), "{}", refusal(&path, &critic));
    let other_rates = config().with(|training| {
        training.lr_actor = 0.1;
        training.tau = 0.5;
        training.batch_size = 3;
    });
    load(&path, &other_rates).unwrap();
}

#[test]
fn a_format_from_the_future_is_named_before_its_fields_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), &checkpoint(7));
    std::fs::write(path.join("manifest.json"), "{\"format\": 3, \"news\": []}").unwrap();
    let error = refusal(&path, &config());
    assert!(error.contains("format is 3, expected 2"), "{error}");
}

#[test]
fn a_format_that_a_changed_bit_made_is_damage_and_the_checkpoint_before_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (older, newer) = (checkpoint(7), checkpoint(9));
    let before = saved(dir.path(), &older);
    let manifest = saved(dir.path(), &newer).join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"format\": 2", "\"format\": 3", 1)).unwrap();
    let found = learner::checkpoint::newest_whole(dir.path()).unwrap();
    assert_eq!(found.whole, Some(before));
    assert!(found.damaged[0].1.to_string().contains("it is damaged"), "{}", found.damaged[0].1);
}

#[test]
fn what_an_offline_learner_has_comes_back_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::configured::trainer("bcq", &["offline.dataset=\"recorded\""]);
    let state = train_state(&config, &mut Pcg64::new(SEED, 3));
    assert!(!state.vae.params.is_empty() && !state.target_actor.is_empty());
    assert!(state.log_alpha.params.is_empty());
    let clock = VirtualTime::starting_at(Duration::ZERO).clock();
    let checkpoint = Checkpoint::fresh(state);
    let path = save(dir.path(), &checkpoint, &config, &Contents::default(), "", &clock).unwrap();
    assert_eq!(load(&path, &config).unwrap(), checkpoint);
    let policy = PolicySnapshot::load(&path.join("policy.safetensors")).unwrap();
    assert_eq!(policy.0.weights.as_ref(), config.published_policy(&checkpoint.state));
}

#[test]
fn what_was_not_selected_is_not_there_and_resuming_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let contents = Contents::new(&["critic_opt".to_owned(), "alpha_loss".to_owned()]);
    let clock = VirtualTime::starting_at(Duration::ZERO).clock();
    let part = checkpoint(7);
    let path = save(dir.path(), &part, &config(), &contents, "", &clock).unwrap();
    let again = save(dir.path(), &part, &config(), &contents, "", &clock).unwrap();
    assert_eq!(again, path);
    let bytes = std::fs::read(path.join("state.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(!file.is_empty());
    for name in file.names() {
        assert!(name.starts_with("critic") && name.contains(".adam_"), "{name}");
    }
    let manifest = std::fs::read_to_string(path.join("manifest.json")).unwrap();
    assert!(manifest.contains("alpha_loss") && !manifest.contains("actor_loss"), "{manifest}");
    let error = refusal(&path, &config());
    assert!(error.contains("learner.checkpoint_contents"), "{error}");
    assert!(error.contains("critic_opt"), "{error}");
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the tensors and updates the digests as the module's documentation describes.
fn forge(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let file = path.join("state.safetensors");
    let old = std::fs::read(&file).unwrap();
    let read = SafeTensors::deserialize(&old).unwrap();
    let mut tensors: Tensors = read
        .iter()
        .map(|(name, view)| {
            (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let new = safetensors::serialize(views, None).unwrap();
    std::fs::write(&file, &new).unwrap();

    let hex = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let manifest = std::fs::read_to_string(path.join("manifest.json")).unwrap();
    let manifest = manifest.replace(&hex(&old), &hex(&new));
    let (before, behind) = manifest.split_once("\"digest\": \"").unwrap();
    let (_, behind) = behind.split_once('"').unwrap();
    let signed = |digest: &str| format!("{before}\"digest\": \"{digest}\"{behind}");
    std::fs::write(path.join("manifest.json"), signed(&hex(signed("").as_bytes()))).unwrap();
}

#[test]
fn a_well_signed_file_is_still_checked_tensor_by_tensor() {
    let name = "critic2.adam_v.layers.1.bias"; // shape (6), from `critic_hidden`
    let swapped = |tensors: &mut Tensors, shape: &[usize], dtype, data: Vec<u8>| {
        tensors.insert(name.to_owned(), (dtype, shape.to_vec(), data));
    };
    let nan = [[0_u8; 4]; 4].concat().into_iter().chain(f32::NAN.to_le_bytes()).chain([0; 4]);
    let nan: Vec<u8> = nan.collect();
    type Change<'c> = Box<dyn FnOnce(&mut Tensors) + 'c>;
    let changes: [(&str, Change<'_>); 6] = [
        ("layers.1.bias is \"missing\", expected (F32, [6])", Box::new(|t| drop(t.remove(name)))),
        (
            "layers.1.bias is (F32, [5]), expected (F32, [6])",
            Box::new(|t| swapped(t, &[5], Dtype::F32, vec![0; 20])),
        ),
        (
            "layers.1.bias is (F32, [2, 3]), expected",
            Box::new(|t| swapped(t, &[2, 3], Dtype::F32, vec![0; 24])),
        ),
        (
            "layers.1.bias is (I32, [6]), expected",
            Box::new(|t| swapped(t, &[6], Dtype::I32, vec![0; 24])),
        ),
        (
            "layers.1.bias[4] is NaN, expected",
            Box::new(|t| swapped(t, &[6], Dtype::F32, nan.clone())),
        ),
        (
            "critic3.bias is \"a tensor\", expected \"absent\"",
            Box::new(|t| drop(t.insert("critic3.bias".into(), (Dtype::F32, vec![0], vec![])))),
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (updates, (expected, change)) in (1..).zip(changes) {
        let path = saved(dir.path(), &checkpoint(updates));
        forge(&path, |_| ());
        load(&path, &config()).expect("a forgery without a change fits");
        forge(&path, change);
        let error = refusal(&path, &config());
        assert!(error.contains(expected) && error.contains("state.safetensors"), "{error}");
    }
}

#[test]
fn a_state_that_could_not_be_read_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let clock = VirtualTime::starting_at(Duration::ZERO).clock();
    let good = checkpoint(7);
    saved(dir.path(), &good);
    let count = vectors(&mut good.state.clone()).len();
    for k in 0..count {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut broken = good.clone();
            broken.state.updates = 8;
            let (name, values) = vectors(&mut broken.state).swap_remove(k);
            *values.last_mut().unwrap() = bad;
            let error = save(dir.path(), &broken, &config(), &Contents::default(), "", &clock)
                .unwrap_err()
                .to_string();
            assert!(error.contains(name) && error.contains(&format!("is {bad}")), "{error}");
        }
        let mut short = good.clone();
        short.state.updates = 8;
        let (name, values) = vectors(&mut short.state).swap_remove(k);
        values.pop();
        let error = save(dir.path(), &short, &config(), &Contents::default(), "", &clock)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains("elements, expected"), "{error}");
    }
    assert_eq!(names(dir.path()), ["update-000000000007"]);
}

#[test]
fn the_same_state_is_kept_and_another_of_the_same_number_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = checkpoint(7);
    let path = saved(dir.path(), &one);
    assert_eq!(saved(dir.path(), &one), path);
    let before = one.clone();
    one.state.targets[0] = 1.5;
    let clock = VirtualTime::starting_at(Duration::ZERO).clock();
    let error = save(dir.path(), &one, &config(), &Contents::default(), "", &clock)
        .unwrap_err()
        .to_string();
    assert!(error.contains("update-000000000007 exists already"), "{error}");
    assert_eq!(load(&path, &config()).unwrap(), before);
}

#[test]
fn newest_goes_by_the_number_and_pruning_leaves_strangers_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(newest(&dir.path().join("none")).unwrap(), None);
    assert_eq!(newest(dir.path()).unwrap(), None);
    let long = 1_000_000_000_000; // one digit more than the padded width of the names
    for updates in [long, 9, 100] {
        saved(dir.path(), &checkpoint(updates));
    }
    for stranger in [".partial-update-000000000500", "update-best", "notes"] {
        std::fs::create_dir(dir.path().join(stranger)).unwrap();
    }
    let expected = dir.path().join("update-1000000000000");
    assert_eq!(newest(dir.path()).unwrap(), Some(expected));
    prune(dir.path(), 2).unwrap();
    let left = [
        ".partial-update-000000000500",
        "notes",
        "update-000000000100",
        "update-1000000000000",
        "update-best",
    ];
    assert_eq!(names(dir.path()), left);
}
