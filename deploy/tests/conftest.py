"""Fixtures and helpers for all tests of the deployments."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".deploy-tools"


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


def debian_tool(package: str, path: str) -> Path:
    """Returns the file `path` of a Debian package. Skips the test with a message if the package cannot be fetched."""
    fetched = subprocess.run([ROOT / "deploy/tools.sh", package], capture_output=True, text=True)
    if fetched.returncode == 3:
        pytest.skip(f"SKIPPED: {package}: {fetched.stderr.strip()}")
    fetched.check_returncode()
    return TOOLS / path
