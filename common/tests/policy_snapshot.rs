//! Snapshots in messages and on disk: they are read back unchanged, and a modified one is refused with an error that
//! names the problem.

use common::{
    ids::PolicyVersion,
    limits::POLICY_PARAMETERS_MAX,
    policy::{
        arch::{Activation, PolicyArch},
        snapshot::PolicySnapshot,
    },
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{collections::HashMap, path::Path};

fn arch() -> PolicyArch {
    plain(&[5, 4], Activation::Tanh, (-20.0, 2.0))
}

fn plain(hidden: &[usize], activation: Activation, log_std_bounds: (f32, f32)) -> PolicyArch {
    PolicyArch::mlp_gaussian((3, 2), hidden, activation, log_std_bounds)
}

fn snapshot() -> PolicySnapshot {
    let count = u16::try_from(arch().tensor_layout().parameters).unwrap();
    let weights: Vec<f32> = (0..count).map(|i| f32::from(i) * 0.37 - 9.0).collect();
    PolicySnapshot::new(PolicyVersion(7), &arch(), weights).unwrap()
}

/// Tensors and metadata of a file, to be modified and written back.
struct Parts {
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Parts {
    fn read(path: &Path) -> Self {
        let file = fs_err::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let tensors =
            tensors.iter().map(|(n, t)| (n.into(), t.shape().to_vec(), t.data().to_vec()));
        Self { tensors: tensors.collect(), metadata: header.metadata().clone().unwrap() }
    }

    fn write(&self, path: &Path) {
        let views = self.tensors.iter().map(|(name, shape, data)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        let file = safetensors::serialize(views, Some(self.metadata.clone())).unwrap();
        fs_err::write(path, file).unwrap();
    }
}

/// Saves a snapshot, modifies the file, and returns the error of loading it.
fn load_error(change: impl FnOnce(&mut Parts)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    snapshot().save(&path, &arch()).unwrap();
    let mut parts = Parts::read(&path);
    change(&mut parts);
    parts.write(&path);
    let error = PolicySnapshot::load(&path).expect_err("the change is noticed").to_string();
    let path = path.to_str().unwrap();
    assert!(error.contains(path), "names the path: {error}");
    error.replace(path, "PATH")
}

#[test]
fn a_saved_snapshot_loads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    for version in [7, 8] {
        let saved = PolicySnapshot { version: PolicyVersion(version), ..snapshot() };
        saved.save(&path, &arch()).unwrap();
        assert_eq!(PolicySnapshot::load(&path).unwrap(), (saved, arch()));
    }
    let names: Vec<_> =
        fs_err::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["policy.safetensors"], "nothing is left beside it");
}

#[test]
fn a_file_has_one_tensor_per_layout_entry_under_its_name_and_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    snapshot().save(&path, &arch()).unwrap();
    let file = fs_err::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let layout = arch().tensor_layout();
    assert_eq!(tensors.len(), layout.entries.len());
    for entry in layout.entries {
        let tensor = tensors.tensor(&entry.name).unwrap();
        assert_eq!(tensor.shape(), entry.shape, "{}", entry.name);
        let range = 4 * entry.range().start..4 * entry.range().end;
        assert_eq!(tensor.data(), &snapshot().weights_as_bytes()[range], "{}", entry.name);
    }
}

#[test]
fn a_changed_file_is_refused_by_what_was_changed() {
    type Change = fn(&mut Parts);
    let cases: [(&str, Change); 9] = [
        ("metadata `format` is missing, expected sapex-policy-1", |p| {
            p.metadata.remove("format");
        }),
        ("metadata `version` is `-1`, expected a number", |p| {
            p.metadata.insert("version".into(), "-1".into());
        }),
        ("metadata `arch` is `{}`, expected a policy architecture", |p| {
            p.metadata.insert("arch".into(), "{}".into());
        }),
        ("policy hidden width is 0, expected 1 to ", |p| {
            let arch = p.metadata["arch"].replace("[5,4]", "[5,0]");
            p.metadata.insert("arch".into(), arch);
        }),
        ("tensor `mu.bias` is missing, expected F32 [2]", |p| {
            p.tensors.retain(|(name, ..)| name != "mu.bias");
        }),
        ("tensor `sigma` is F32 [1], expected absent", |p| {
            p.tensors.push(("sigma".into(), vec![1], vec![0; 4]));
        }),
        ("tensor `trunk.0.weight` is F32 [3, 5], expected F32 [5, 3]", |p| {
            let tensor = p.tensors.iter_mut().find(|(name, ..)| name == "trunk.0.weight").unwrap();
            tensor.1.reverse();
        }),
        ("policy weight trunk.1.bias[2] is NaN, expected a finite number", |p| {
            let tensor = p.tensors.iter_mut().find(|(name, ..)| name == "trunk.1.bias").unwrap();
            tensor.2[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        ("policy weights have checksum ", |p| p.tensors[3].2[1] ^= 1),
    ];
    for (expected, change) in cases {
        let error = load_error(change);
        assert!(error.starts_with(&format!("PATH: {expected}")), "{error}, expected {expected}");
    }
}

#[test]
fn a_truncated_foreign_or_missing_file_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    snapshot().save(&path, &arch()).unwrap();
    let whole = fs_err::read(&path).unwrap();
    for length in [0, 7, 8, 100, whole.len() - 1] {
        fs_err::write(&path, &whole[..length]).unwrap();
        let error = PolicySnapshot::load(&path).unwrap_err().to_string();
        assert!(error.contains("policy.safetensors: not a valid safetensors file"), "{error}");
    }
    let error = PolicySnapshot::load(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent"), "{error}");
}

#[test]
fn a_failed_save_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.safetensors");
    snapshot().save(&path, &arch()).unwrap();
    let other = plain(&[5, 4], Activation::Relu, (-20.0, 2.0));
    let error = snapshot().save(&path, &other).unwrap_err().to_string();
    assert!(error.contains("architecture hash"), "{error}");

    // A folder at the path of the partial file makes saving fail.
    fs_err::create_dir(folder.path().join("policy.safetensors.partial")).unwrap();
    let newer = PolicySnapshot { version: PolicyVersion(8), ..snapshot() };
    let error = newer.save(&path, &arch()).unwrap_err().to_string();
    assert!(error.contains("policy.safetensors.partial"), "{error}");
    assert_eq!(PolicySnapshot::load(&path).unwrap().0, snapshot());
}

#[test]
fn frames_are_read_at_any_alignment_and_checked_first() {
    let sent = snapshot();
    let (version, hash, checksum) = (sent.version, sent.arch_hash, sent.checksum);
    let frame = sent.weights_as_bytes();
    let mut buffer = vec![0; frame.len() + 4];
    for shift in 0..4 {
        buffer[shift..shift + frame.len()].copy_from_slice(&frame);
        let bytes = &buffer[shift..shift + frame.len()];
        let got = PolicySnapshot::from_le_bytes(version, &arch(), hash, checksum, bytes);
        assert_eq!(got.unwrap(), sent);
    }

    let read = |arch: &PolicyArch, bytes: &[u8]| {
        let got = PolicySnapshot::from_le_bytes(version, arch, hash, checksum, bytes);
        got.unwrap_err().to_string()
    };
    let count = frame.len();
    let short = format!("policy weights are {} bytes, expected {count}", count - 1);
    assert_eq!(read(&arch(), &frame[1..]), short);
    let mut flipped = frame.to_vec();
    flipped[17] ^= 0x10;
    assert!(read(&arch(), &flipped).starts_with("policy weights have checksum "));
    let other = plain(&[5, 4], Activation::Tanh, (-5.0, 2.0));
    assert!(read(&other, &frame).starts_with("policy architecture hash is "));
}

#[test]
fn verify_names_what_differs() {
    snapshot().verify(&arch()).unwrap();
    let mut broken = snapshot();
    broken.checksum ^= 1;
    let error = broken.verify(&arch()).unwrap_err().to_string();
    assert!(error.starts_with("policy weights have checksum "), "{error}");

    let mut short = snapshot();
    short.weights = short.weights[1..].into();
    let error = short.verify(&arch()).unwrap_err().to_string();
    assert!(error.starts_with("policy has ") && error.contains(" weights, expected "), "{error}");
}

#[test]
fn checksums_do_not_change_between_releases() {
    // The digest is BLAKE3 over 1.0, -2.0 and so on as little-endian bytes, which other languages can reproduce.
    let arch = PolicyArch::mlp_gaussian((1, 1), &[1], Activation::Tanh, (-20.0, 2.0));
    let weights = [1.0, -2.0, 0.5, 3.0, -0.25, 8.0];
    let snapshot = PolicySnapshot::new(PolicyVersion(1), &arch, weights).unwrap();
    assert_eq!(format!("{:016x}", snapshot.checksum), "f17aef8650fc0235");
}

#[test]
fn absurd_architectures_are_refused_before_anything_is_sized_by_them() {
    let (max, widest) = (POLICY_PARAMETERS_MAX, 1 << 20);
    let hidden = |widths: &[usize]| plain(widths, Activation::Tanh, (-20.0, 2.0));
    let log_std = |bounds: (f32, f32)| plain(&[5, 4], Activation::Tanh, bounds);
    let cases = [
        (PolicyArch { obs_dim: 0, ..arch() }, format!("policy obs_dim is 0, expected 1 to {max}")),
        (hidden(&[]), "policy number of hidden layers is 0, expected 1 to 64".into()),
        (
            hidden(&[usize::MAX]),
            format!("policy hidden width is {}, expected 1 to {widest}", usize::MAX),
        ),
        (
            hidden(&[widest, widest]),
            format!("policy has 1099521064964 parameters, expected at most {max}"),
        ),
        (
            log_std((3.0, 2.0)),
            "policy log_std bounds are [3, 2], expected two finite numbers in order".into(),
        ),
        (
            log_std((-20.0, f32::NAN)),
            "policy log_std bounds are [-20, NaN], expected two finite numbers in order".into(),
        ),
    ];
    for (arch, expected) in cases {
        assert_eq!(arch.validate().unwrap_err().to_string(), expected);
    }
    arch().validate().unwrap();
}

#[test]
fn equal_snapshots_are_equal_files_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        snapshot().save(&path, &arch()).unwrap();
        fs_err::read(path).unwrap()
    };
    let first = write("first");
    for another in 0..8 {
        assert_eq!(write("another"), first, "file {another}");
    }
    let (length, _) = SafeTensors::read_metadata(&first).unwrap();
    assert!(length.is_multiple_of(8), "tensors lie aligned behind the header");
}
