//! `cargo xtask <chore>`: repository tasks other than compiling.

mod citations;
mod docs;
mod files;
mod libtorch;
mod mujoco;
mod named_tests;
mod source;
mod tidy;
mod type_names;
mod wheels;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Repository chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    /// The repository; this one by default.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Fetch libtorch from PyPI for the learner's feature `torch`.
    Libtorch {
        /// The CUDA build with everything it needs (5 GB), into `.libtorch-cuda`.
        #[arg(long)]
        cuda: bool,
    },
    /// Fetch MuJoCo and Gymnasium's models of its tasks from PyPI, for the feature `mujoco` of actors.
    Mujoco,
    /// Check the house rules.
    Tidy,
    /// Write docs/configuration.md.
    Docs,
}

#[expect(clippy::print_stderr, reason = "a command-line program")]
fn main() -> ExitCode {
    // Read the path at run time and not at build time, because several checkouts may share a target folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = Path::new(&package).parent().expect("xtask lies in the workspace");
    let Cli { root, chore } = Cli::parse();
    let root = root.as_deref().unwrap_or(own);
    let outcome = match chore {
        Chore::Libtorch { cuda } => libtorch::fetch(root, libtorch::Build::new(cuda)),
        Chore::Mujoco => mujoco::fetch(root),
        Chore::Tidy => tidy::check(root),
        Chore::Docs => docs::write(root),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
