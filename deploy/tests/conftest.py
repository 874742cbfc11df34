"""Fixtures that all tests of the deployments share."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".deploy-tools"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


def debian_tool(package: str, path: str) -> Path:
    """The file `path` of a Debian package; skips the test, aloud, where the package cannot be fetched."""
    fetched = subprocess.run([ROOT / "deploy/tools.sh", package], capture_output=True, text=True)
    if fetched.returncode == 3:
        pytest.skip(f"SKIPPED: {package}: {fetched.stderr.strip()}")
    fetched.check_returncode()
    return TOOLS / path
