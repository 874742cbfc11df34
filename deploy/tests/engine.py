"""The Docker engine, images and compose commands that the tests of the deployments use."""

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
# A separate tag, so that the tests do not replace the user's images.
TAG = "test"


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Runs a command and returns its result. On failure, the assertion message contains its output."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done


def inspect(what: str) -> dict:
    """Returns the output of `docker inspect` for a container or an image."""
    return json.loads(run("docker", "inspect", what).stdout)[0]


def need_engine() -> None:
    """Skips the test with a message if no Docker engine answers."""
    try:
        answered = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60)
        reason = answered.stderr.strip()
        if answered.returncode == 0:
            return
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    pytest.skip(f"SKIPPED: no Docker engine: {reason}")


def binaries() -> Path:
    """Returns the folder of the programs: SAPEX_BINARIES, or the newest complete build.

    A release build takes as long as all these tests together. `make test` has built the programs in the dev profile,
    whose kernels are optimised as in a release, so these are good enough. If no build exists, the dev profile is built.
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
    """Builds all images from existing programs and returns the output of the command."""
    need_engine()
    environment = os.environ | {"BINARIES": str(binaries()), "SAPEX_TAG": TAG}
    done = subprocess.run([ROOT / "deploy/images.sh", *IMAGES], capture_output=True, text=True, env=environment)
    if done.returncode == 3:
        pytest.skip(f"SKIPPED: images: {done.stderr.strip()}")
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose_commands() -> dict[str, Path]:
    """Returns the installed docker-compose commands by major version."""
    there = {"5": Path(sys.executable).parent / "docker-compose"}
    if old := shutil.which("docker-compose"):
        version = subprocess.run([old, "version", "--short"], capture_output=True, text=True).stdout.strip()
        there.setdefault(version.lstrip("v").split(".")[0], Path(old))
    return there
