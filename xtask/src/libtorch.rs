//! Fetches libtorch from PyPI. This source needs no account and provides the same bytes as `pip install torch`.
//!
//! The wheel is a CUDA build. Its CPU part works without a GPU. However, `libtorch_cpu.so` needs two small CUDA
//! libraries at load time (`libcudart.so.13`, `libcupti.so.13`), and `libtorch.so` needs all of CUDA. Therefore the CPU
//! folder has the CPU libraries, these two CUDA libraries, and a linker script instead of `libtorch.so`. It takes 0.5
//! GB instead of 4 GB.
//!
//! | folder | `lib/` | `include/` |
//! |---|---|---|
//! | `.libtorch` | `libtorch_cpu.so libc10.so libgomp.so.1`, two CUDA libraries, `libtorch.so` (a script) | headers |
//! | `.libtorch-cuda` | link to `torch/lib`; the rpath of its files leads to `nvidia/*/lib` | link to `torch/include` |
//!
//! A folder is built under a temporary name and then renamed. Therefore a folder with the final name is always
//! complete.

use crate::wheels::{download, python_with_pip, remove_if_present, say, unpack, wheels_in};
use anyhow::{Result, ensure};
use fs_err as fs;
use std::env::consts::{ARCH, OS};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Version of libtorch that `tch` requires.
const TORCH_VERSION: &str = "2.11.0";

/// Variant of libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Runs on any x86-64 Linux machine.
    Cpu,
    /// Needs a machine with an NVIDIA driver.
    Cuda,
}

impl Build {
    /// Returns the variant for the switch `--cuda`.
    pub(crate) fn new(cuda: bool) -> Self {
        if cuda { Self::Cuda } else { Self::Cpu }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "the CPU",
            Self::Cuda => "CUDA",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Cpu => ".libtorch",
            Self::Cuda => ".libtorch-cuda",
        }
    }

    /// Returns the members of the torch wheel that must be unpacked.
    fn members(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &[
                "torch/include/",
                "torch/lib/libtorch_cpu.so",
                "torch/lib/libc10.so",
                "torch/lib/libgomp.so.1",
            ],
            Self::Cuda => &["torch/include/", "torch/lib/"],
        }
    }

    /// Returns the other packages that pip must download. They come from the `Requires-Dist` lines of the wheel, so
    /// that their versions are not repeated here.
    fn requirements(self, metadata: &str) -> Vec<String> {
        let requires = metadata.lines().filter_map(|line| line.strip_prefix("Requires-Dist: "));
        let unmarked = requires.map(|line| line.split(';').next().unwrap_or(line).trim());
        match self {
            Self::Cpu => unmarked
                .filter_map(|line| line.strip_prefix("cuda-toolkit[")?.split_once(']'))
                .map(|(_, version)| format!("cuda-toolkit[cudart,cupti]{version}"))
                .collect(),
            Self::Cuda => unmarked
                .filter(|line| line.starts_with("nvidia-") || line.starts_with("cuda-toolkit["))
                .map(String::from)
                .collect(),
        }
    }
}

/// Installs libtorch in the workspace. Does nothing if it is installed already, or if the user has set `LIBTORCH`.
///
/// # Errors
/// Returns an error if the machine is not x86-64 Linux, or if Python 3.10, pip, the network or disk space is missing.
/// Partial files are then removed. If the process is killed, a `*.partial` folder remains. It is never used, and the
/// next call removes it.
pub(crate) fn fetch(root: &Path, build: Build) -> Result<()> {
    let folder = root.join(build.folder());
    if let Some(own) = users_libtorch(root) {
        say(&format!("LIBTORCH is set: using {}, nothing fetched", own.display()));
        return Ok(());
    }
    let complete = fs::read_to_string(folder.join("build-version"))
        .is_ok_and(|version| version.trim() == TORCH_VERSION);
    if !complete {
        ensure!(
            OS == "linux" && ARCH == "x86_64",
            "no libtorch {TORCH_VERSION} recipe for {OS} on {ARCH}: set LIBTORCH to the folder of your own"
        );
        let partial = root.join(format!("{}.partial", build.folder()));
        remove_if_present(&partial)?;
        if let Err(error) = assemble(&partial, build) {
            remove_if_present(&partial)?; // up to gigabytes that no later call could use
            return Err(error);
        }
        remove_if_present(&folder)?;
        fs::rename(&partial, &folder)?;
    }
    say(&format!("libtorch {TORCH_VERSION} for {} is in {}", build.name(), folder.display()));
    if build == Build::Cuda {
        say(&format!("to build with it: export LIBTORCH={}", folder.display()));
    }
    Ok(())
}

/// Returns `LIBTORCH` if the user has set it to another folder than the two that this program fills.
/// `.cargo/config.toml` sets `LIBTORCH` to the first of these two folders.
fn users_libtorch(root: &Path) -> Option<PathBuf> {
    let set = PathBuf::from(std::env::var_os("LIBTORCH")?);
    let ours = [Build::Cpu, Build::Cuda].map(|build| root.join(build.folder()));
    (!ours.contains(&set)).then_some(set)
}

/// Downloads and unpacks all files below `partial`, and creates the links.
fn assemble(partial: &Path, build: Build) -> Result<()> {
    let wheels = partial.join("wheels");
    fs::create_dir_all(&wheels)?;
    // Make git ignore the content of the folder, under its temporary name and under its final name.
    fs::write(partial.join(".gitignore"), "*\n")?;

    let python = python_with_pip(partial, "set LIBTORCH")?;
    let torch = format!("torch=={TORCH_VERSION}");
    download(&python, &wheels, &["--no-deps", &torch])?;
    let info = format!("torch-{TORCH_VERSION}.dist-info/METADATA");
    let members: Vec<_> = build.members().iter().copied().chain([info.as_str()]).collect();
    for wheel in wheels_in(&wheels)? {
        unpack(&python, &wheel, partial, &members)?;
        fs::remove_file(wheel)?; // half a gigabyte, not needed after unpacking
    }

    let requirements = build.requirements(&fs::read_to_string(partial.join(&info))?);
    ensure!(
        !requirements.is_empty(),
        "the {torch} wheel asks for no cuda-toolkit: not the build this knows"
    );
    download(&python, &wheels, &requirements)?;
    for wheel in wheels_in(&wheels)? {
        unpack(&python, &wheel, partial, &["nvidia/"])?;
    }
    remove_if_present(&wheels)?;
    remove_if_present(&partial.join("venv"))?;
    match build {
        Build::Cpu => lay_out_cpu(partial)?,
        Build::Cuda => {
            symlink("torch/lib", partial.join("lib"))?;
            symlink("torch/include", partial.join("include"))?;
        }
    }
    fs::write(partial.join("build-version"), TORCH_VERSION)?; // torch-sys checks this file
    Ok(())
}

/// Moves the unpacked files of the CPU build into the layout of a libtorch folder.
fn lay_out_cpu(partial: &Path) -> Result<()> {
    fs::rename(partial.join("torch/lib"), partial.join("lib"))?;
    fs::rename(partial.join("torch/include"), partial.join("include"))?;
    let lib = partial.join("lib");
    for name in ["libcudart.so.13", "libcupti.so.13"] {
        fs::rename(partial.join("nvidia/cu13/lib").join(name), lib.join(name))?;
    }
    symlink("libgomp.so.1", lib.join("libgomp.so"))?;
    fs::write(lib.join("libtorch.so"), "INPUT(-ltorch_cpu)\n")?;
    remove_if_present(&partial.join("torch"))?;
    remove_if_present(&partial.join("nvidia"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "Version: 2.11.0
Requires-Dist: filelock
Requires-Dist: cuda-toolkit[cublas,cudart,cupti]==13.0.2; platform_system == \"Linux\"
Requires-Dist: cuda-bindings<14,>=13.0.3; platform_system == \"Linux\"
Requires-Dist: nvidia-cudnn-cu13==9.19.0.56; platform_system == \"Linux\"
";

    #[test]
    fn the_cpu_build_asks_for_the_two_small_cuda_libraries_only() {
        assert_eq!(Build::Cpu.requirements(METADATA), ["cuda-toolkit[cudart,cupti]==13.0.2"]);
    }

    #[test]
    fn the_cuda_build_asks_for_every_nvidia_library_and_nothing_of_python() {
        assert_eq!(
            Build::Cuda.requirements(METADATA),
            ["cuda-toolkit[cublas,cudart,cupti]==13.0.2", "nvidia-cudnn-cu13==9.19.0.56"]
        );
    }
}
