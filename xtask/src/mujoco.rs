//! Fetches MuJoCo and the models of its tasks from PyPI. The library is the same as that of `pip install mujoco`, so
//! that trajectories equal Gymnasium's to the last digit. The models come from the Gymnasium wheel. Both wheels are
//! compared with known digests, and no code in them is run.
//!
//! | in `.mujoco` | content |
//! |---|---|
//! | `lib/libmujoco.so.3.17.0` | the library |
//! | `lib/libmujoco.so` | link to the library, with the name that linkers search for |
//! | `models/*.xml` | Gymnasium's models |
//! | `version` | the versions installed |
//!
//! The folder is built under a temporary name and then renamed. Therefore a folder with the final name is always
//! complete.

use crate::wheels::{download, python_with_pip, remove_if_present, say, unpack, wheels_in};
use anyhow::{Context as _, Result, bail, ensure};
use fs_err as fs;
use std::env::consts::{ARCH, OS};
use std::os::unix::fs::symlink;
use std::path::Path;

/// The MuJoCo version that `mujoco-rs` requires, and the version of Gymnasium whose tasks `actor-node/src/env/mujoco`
/// reproduces.
const VERSION: &str = "mujoco 3.17.0, gymnasium 1.4.0";
const FOLDER: &str = ".mujoco";
const LIBRARY: &str = "libmujoco.so.3.17.0";
const MODELS: &str = "gymnasium/envs/mujoco/assets/";

/// The wheels and their digests, as pip requirements. A wheel for any Python version is suitable, because Python does
/// not load it.
const WHEELS: &str = "\
mujoco==3.17.0 --hash=sha256:d66928d86a2d1b601bbaa4dc11db50214d17d5301bb8afd84721313b67ff0874
gymnasium==1.4.0 --hash=sha256:1cb947c59e7c72d8eabb2c2274c00cd20948e69f8452a9ef4092223be24fdf0e
";
const PLATFORM: [&str; 8] = [
    "--platform",
    "manylinux_2_28_x86_64",
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--abi",
    "cp311",
];

/// Installs MuJoCo in the workspace. Does nothing if it is installed already.
///
/// # Errors
/// Returns an error if the machine is not x86-64 Linux, if Python, pip or the network is missing, or if a digest
/// differs. Partial files are then removed. If the process is killed, a `.mujoco.partial` folder remains. It is never
/// used, and the next call removes it.
pub(crate) fn fetch(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    if !fs::read_to_string(folder.join("version")).is_ok_and(|version| version.trim() == VERSION) {
        ensure!(
            OS == "linux" && ARCH == "x86_64",
            "no MuJoCo recipe for {OS} on {ARCH}: set MUJOCO_DYNAMIC_LINK_DIR to the folder of your own 3.17.0, and \
             SAPEX_MUJOCO_MODELS to Gymnasium's models"
        );
        let partial = root.join(format!("{FOLDER}.partial"));
        remove_if_present(&partial)?;
        if let Err(error) = assemble(&partial) {
            remove_if_present(&partial)?;
            return Err(error);
        }
        remove_if_present(&folder)?;
        fs::rename(&partial, &folder)?;
    }
    say(&format!("{VERSION} are in {}", folder.display()));
    Ok(())
}

/// Downloads and unpacks all files below `partial`, and moves them to their final paths there.
fn assemble(partial: &Path) -> Result<()> {
    let wheels = partial.join("wheels");
    fs::create_dir_all(&wheels)?;
    // Make git ignore the content of the folder, under its temporary name and under its final name.
    fs::write(partial.join(".gitignore"), "*\n")?;
    let requirements = partial.join("requirements.txt");
    fs::write(&requirements, WHEELS)?;

    let python = python_with_pip(partial, "set MUJOCO_DYNAMIC_LINK_DIR and SAPEX_MUJOCO_MODELS")?;
    let requirements = requirements.to_str().context("the repository's path is not UTF-8")?;
    let mut what = vec!["--no-deps", "--require-hashes", "--requirement", requirements];
    what.extend(PLATFORM);
    download(&python, &wheels, &what)?;
    let unpacked = partial.join("unpacked");
    for wheel in wheels_in(&wheels)? {
        unpack(&python, &wheel, &unpacked, &[&format!("mujoco/{LIBRARY}"), MODELS])?;
    }
    lay_out(&unpacked, partial)?;
    for used in [wheels, unpacked, partial.join("venv")] {
        remove_if_present(&used)?;
    }
    fs::remove_file(requirements)?;
    fs::write(partial.join("version"), VERSION)?;
    Ok(())
}

/// Moves the unpacked files to the paths that builds and runs expect, and creates the link.
fn lay_out(unpacked: &Path, folder: &Path) -> Result<()> {
    let lib = folder.join("lib");
    fs::create_dir_all(&lib)?;
    let library = unpacked.join("mujoco").join(LIBRARY);
    if !library.is_file() {
        bail!("the wheel has no {LIBRARY}: not the build this knows");
    }
    fs::rename(library, lib.join(LIBRARY))?;
    symlink(LIBRARY, lib.join("libmujoco.so"))?;
    fs::rename(unpacked.join(MODELS), folder.join("models"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_of_the_versions_that_the_folder_claims() {
        let pins: Vec<_> = WHEELS.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(pins.join(", ").replace("==", " "), VERSION);
        assert!(WHEELS.lines().all(|line| line.contains(" --hash=sha256:")));
    }

    #[test]
    fn the_library_gets_the_name_that_linkers_look_for() {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = dir.path().join("unpacked");
        fs::create_dir_all(unpacked.join("mujoco")).unwrap();
        fs::create_dir_all(unpacked.join(MODELS)).unwrap();
        assert!(lay_out(&unpacked, &dir.path().join("none")).is_err());
        fs::write(unpacked.join("mujoco").join(LIBRARY), "library").unwrap();
        fs::write(unpacked.join(MODELS).join("ant.xml"), "ant").unwrap();
        lay_out(&unpacked, &dir.path().join("laid")).unwrap();
        let laid = dir.path().join("laid");
        assert_eq!(fs::read_to_string(laid.join("lib/libmujoco.so")).unwrap(), "library");
        assert_eq!(fs::read_to_string(laid.join("models/ant.xml")).unwrap(), "ant");
    }
}
