//! `sapex export`: writes a run's policy to files for other programs.
//!
//! - [`policy`]: builds a [`graph`] from a policy, including the observation normaliser and the action scaling. `body`
//!   builds the network bodies.
//! - [`onnx`] and [`torchscript`]: encode a graph as a file, without a foreign library.
//!
//! Each export also writes a description of the policy to a JSON file with the same stem, such as `policy.json`.

mod body;
pub mod graph;
#[cfg(feature = "formats")]
pub mod onnx;
mod pickle;
pub mod policy;
#[cfg(feature = "formats")]
pub mod proto;
pub mod torchscript;
mod zip;

use crate::cli::{ExportArgs, Format};
use crate::run_policy;
use anyhow::ensure;
use common::policy::arch::{Body, Head, PolicyArch};
use common::policy::snapshot::PolicySnapshot;
use common::process::Usage;
use common::run_dir::{POLICY, RunDir};
use common::spec::{ActionKind, EnvSpec};
use policy::{Policy, Variant};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Writes the policy and its description, and returns the paths of the files. An ONNX or TorchScript file computes the
/// deterministic action. For TorchScript, a second file with the sampler is written if the policy is stochastic. A
/// safetensors file holds the weights; it is read back as a check.
///
/// # Errors
/// Returns an error if the run has no checkpoint, if its policy does not load or does not fit its environment, or if a
/// file cannot be written.
pub fn export(export: &ExportArgs) -> anyhow::Result<Vec<PathBuf>> {
    let run = RunDir::open(&export.run)?;
    let (snapshot, arch) =
        PolicySnapshot::load(&run_policy::folder(&run, export.newest)?.join(POLICY))?;
    let spec = run.config()?.env_spec()?;
    ensure!(
        (spec.obs_dim, spec.act_dim) == (arch.obs_dim, arch.act_dim),
        "the policy is for {} observed numbers and {} actions, {} has {} and {}",
        arch.obs_dim,
        arch.act_dim,
        spec.id,
        spec.obs_dim,
        spec.act_dim
    );
    let (scale, bias) = (spec.action_scale(), spec.action_bias());
    let policy = Policy { arch: &arch, weights: &snapshot.weights, scale: &scale, bias: &bias };
    let extension = match export.format {
        Format::Safetensors => "safetensors",
        Format::Torchscript => "pt",
        Format::Onnx => "onnx",
    };
    let default = || run.path().join("policy").with_extension(extension);
    let out = export.out.clone().unwrap_or_else(default);
    let described = out.with_extension("json");
    if out == described {
        let out = out.display();
        return Err(Usage(format!("--out {out}: .json is for the description beside it")).into());
    }

    let description = describe(&policy, &snapshot, &spec);
    let mut files = vec![out];
    match export.format {
        Format::Safetensors => save_weights(&snapshot, &arch, &files[0])?,
        #[cfg(not(feature = "formats"))]
        Format::Onnx => return Err(crate::without_formats::left_out("--format onnx")),
        #[cfg(feature = "formats")]
        Format::Onnx => {
            let metadata = [("sapex", description.to_string())];
            write(&files[0], &onnx::encode(&policy.graph(Variant::Mode), &metadata))?;
        }
        Format::Torchscript => {
            save_script(&policy, Variant::Mode, &files[0])?;
            if policy.noise_width() > 0 {
                files.push(sampler_path(&files[0]));
                save_script(&policy, Variant::Sampler, &files[1])?;
            }
        }
    }
    write(&described, serde_json::to_string_pretty(&description)?.as_bytes())?;
    files.push(described);
    Ok(files)
}

fn save_weights(snapshot: &PolicySnapshot, arch: &PolicyArch, out: &Path) -> anyhow::Result<()> {
    snapshot.save(out, arch)?;
    let (written, _) = PolicySnapshot::load(out)?;
    ensure!(written.checksum == snapshot.checksum, "{} reads back differently", out.display());
    Ok(())
}

/// Writes a TorchScript file. With the feature `torch`, libtorch loads the written file as a check.
fn save_script(policy: &Policy<'_>, variant: Variant, out: &Path) -> anyhow::Result<()> {
    write(out, &torchscript::encode(&policy.graph(variant)))?;
    #[cfg(feature = "torch")]
    learner::torch::script::Script::load(out)?;
    Ok(())
}

/// Returns the path of the sampler: `policy.pt` becomes `policy-sampler.pt`.
fn sampler_path(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-sampler")).with_extension("pt")
}

/// Writes to a temporary name in the same folder and renames the file, so that readers see only complete files.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs_err::write(&partial, content)?;
    Ok(fs_err::rename(&partial, path)?)
}

/// Returns the description of the policy. It is meant for programs that run the exported file, or that rebuild the
/// policy from the safetensors file.
fn describe(policy: &Policy<'_>, snapshot: &PolicySnapshot, spec: &EnvSpec) -> Value {
    let graph = policy.graph(Variant::Mode);
    let obs = match policy.arch.body {
        Body::Cnn { .. } => "bytes, 0 to 255, by channel, row and column",
        _ => "as the environment gives them",
    };
    let inputs = graph.inputs().map(|(name, width)| {
        let values =
            if name == "obs" { obs } else { "0 in an episode's first step, then next_state" };
        json!({ "name": name, "dtype": "float32", "shape": ["N", width], "values": values })
    });
    let outputs = graph.outputs.iter().map(|output| match output.width {
        Some(width) => json!({ "name": output.name, "dtype": "float32", "shape": ["N", width] }),
        None => json!({ "name": output.name, "dtype": "int64", "shape": ["N"] }),
    });
    let layout = policy.arch.tensor_layout();
    let tensors =
        layout.entries.iter().map(|entry| json!({ "name": entry.name, "shape": entry.shape }));
    let distribution = match spec.actions {
        ActionKind::Continuous => "standard normal",
        ActionKind::Discrete => "uniform in [0, 1)",
    };
    let mode = match (&policy.arch.body, &policy.arch.head) {
        (Body::BatchConstrained { samples, .. }, _) => {
            format!("the critic's choice of {samples} actions, decoded from latents drawn once")
        }
        (_, Head::Gaussian { .. }) => "tanh of the mean".to_owned(),
        (_, Head::Categorical) => "the most probable action's index".to_owned(),
        (_, Head::Deterministic { .. }) => "the network's output".to_owned(),
    };
    let noise = (policy.noise_width() > 0)
        .then(|| json!({ "shape": ["N", policy.noise_width()], "distribution": distribution }));
    json!({
        "environment": spec.id,
        "policy_version": snapshot.version.0,
        "checksum": format!("{:016x}", snapshot.checksum),
        "arch": policy.arch,
        "actions": spec.actions,
        "action_scale": policy.scale,
        "action_bias": policy.bias,
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "deterministic_action": mode,
        "sampler_noise": noise,
        "tensors": tensors.collect::<Vec<_>>(),
    })
}
