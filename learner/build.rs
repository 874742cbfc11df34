//! With the feature `torch`: writes libtorch's folder into the binaries as their rpath, so that no `LD_LIBRARY_PATH` is
//! needed, and hands it to the crates above, which must do the same for theirs.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |feature| env::var_os(feature).is_some();
    if !has("CARGO_FEATURE_TORCH") || has("CARGO_FEATURE_CHECK_ONLY") {
        return;
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // .cargo/config.toml sets LIBTORCH where the user has not.
    let folder = PathBuf::from(env::var_os("LIBTORCH").unwrap_or_default()).join("lib");
    let Ok(lib) = fs::canonicalize(&folder) else {
        println!("cargo::error=no libtorch in {}: run `cargo xtask libtorch`", folder.display());
        return;
    };
    println!("cargo::rerun-if-changed={}", folder.join("libtorch_cpu.so").display());
    let mut args = vec![format!("-Wl,-rpath,{}", lib.display())];
    if lib.join("libtorch_cuda.so").exists() {
        // Nothing refers to a symbol of the CUDA half: it registers itself when it is loaded. A linker that keeps only
        // what is referred to would drop it, and CUDA would be reported as missing.
        args.push(format!("-L{}", lib.display()));
        args.extend(["-Wl,--no-as-needed", "-ltorch_cuda", "-Wl,--as-needed"].map(String::from));
    }
    for arg in &args {
        println!("cargo::rustc-link-arg={arg}");
    }
    println!("cargo::metadata=link_args={}", args.join(" "));
}
