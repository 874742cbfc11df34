"""The Docker engine, the images and the compose commands that tests of deployments run on."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ["sapex", "learner", "actor-node", "replay-server", "prometheus"]
PROGRAMS = ["sapex", "learner", "actor-node", "replay-server"]
# Of their own, so that tests leave the images of whoever works here alone.
TAG = "test"


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Runs a command and returns what it said; its words are in the failure."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done


def inspect(what: str) -> dict:
    """The answer of `docker inspect` about a container or an image."""
    return json.loads(run("docker", "inspect", what).stdout)[0]


def need_engine() -> None:
    """Skips the test, aloud, where no Docker engine answers."""
    try:
        answered = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60)
        reason = answered.stderr.strip()
        if answered.returncode == 0:
            return
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    pytest.skip(f"SKIPPED: no Docker engine: {reason}")


def binaries() -> Path:
    """The folder of the programs: SAPEX_BINARIES, else what was built last.

    A release build takes as long as all these tests together. `make test` has just built the programs in the dev profile, whose
    kernels are optimised like the release's, so those do; where nothing is built, that profile is.
    """
    if given := os.environ.get("SAPEX_BINARIES"):
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folders = [target / profile for profile in ("debug", "release")]
    whole = [folder for folder in folders if all((folder / program).exists() for program in PROGRAMS)]
    if not whole:
        features = ["--features", "cluster/mujoco,actor-node/mujoco"] if (ROOT / ".mujoco/version").exists() else []
        run("cargo", "build", "--workspace", *features)
        return target / "debug"
    return max(whole, key=lambda folder: min((folder / program).stat().st_mtime for program in PROGRAMS))


@functools.cache
def make_images() -> str:
    """Builds all images from programs that are there, and returns what the command printed."""
    need_engine()
    environment = os.environ | {"BINARIES": str(binaries()), "SAPEX_TAG": TAG}
    done = subprocess.run([ROOT / "deploy/images.sh", *IMAGES], capture_output=True, text=True, env=environment)
    if done.returncode == 3:
        pytest.skip(f"SKIPPED: images: {done.stderr.strip()}")
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose_commands() -> dict[str, Path]:
    """Every docker-compose that is here, by its major version."""
    there = {"5": Path(sys.executable).parent / "docker-compose"}
    if old := shutil.which("docker-compose"):
        version = subprocess.run([old, "version", "--short"], capture_output=True, text=True).stdout.strip()
        there.setdefault(version.lstrip("v").split(".")[0], Path(old))
    return there
