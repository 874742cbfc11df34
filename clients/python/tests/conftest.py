"""Fixtures of all tests: a replay server with its settings, and a limit on the time of a test."""

import faulthandler
from pathlib import Path
from typing import Iterator

import pytest
from servers import Servers

# Longest time of one test. After it, the stacks of all threads are shown and the run ends.
LIMIT = 180


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts replay servers, and ends them after the test."""
    started = Servers(tmp_path)
    yield started
    started.end()
