//! `cargo xtask <chore>`: what the repository needs done to it that is not compiling.

mod libtorch;

use clap::{Parser, Subcommand};
use std::path::Path;
use std::process::ExitCode;

/// Repository chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
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
}

#[expect(clippy::print_stderr, reason = "a command-line front door")]
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let outcome = match Cli::parse().chore {
        Chore::Libtorch { cuda } => libtorch::fetch(root, libtorch::Build::new(cuda)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
