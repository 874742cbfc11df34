//! Links MuJoCo if the feature `mujoco` is enabled. Writes the folder of MuJoCo's library into the binaries as their
//! rpath, so that no `LD_LIBRARY_PATH` is needed. Passes the link argument to dependent crates, whose build scripts
//! must do the same for their binaries. Also passes the folder to the code as `SAPEX_MUJOCO_LIB`: the models
//! are in a folder next to it.

use std::path::PathBuf;
use std::{env, fs};

const FOLDER: &str = "MUJOCO_DYNAMIC_LINK_DIR";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_MUJOCO").is_none() {
        return;
    }
    if env::var_os("CARGO_FEATURE_CHECK_ONLY").is_some() {
        // The code that reads the variable is checked and never run.
        println!("cargo::rustc-env=SAPEX_MUJOCO_LIB=");
        return;
    }
    println!("cargo::rerun-if-env-changed={FOLDER}");
    // `.cargo/config.toml` sets this variable unless the user has set it.
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap_or_default());
    let Ok(lib) = fs::canonicalize(&folder) else {
        println!("cargo::error=no MuJoCo in {}: run `make mujoco`", folder.display());
        return;
    };
    println!("cargo::rustc-env=SAPEX_MUJOCO_LIB={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=link_args=-Wl,-rpath,{}", lib.display());
}
