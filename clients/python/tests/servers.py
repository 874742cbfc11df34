"""The real replay server as processes on loopback, on ports that it chooses."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
# Four observations, two actions, no rate limit.
BASE: Dict[str, Any] = {
    "cluster.env": "mine",
    "cluster.obs_dim": 4,
    "cluster.act_dim": 2,
    "cluster.action_low": [-1.0, -1.0],
    "cluster.action_high": [1.0, 1.0],
    "endpoints.replay": ["tcp://127.0.0.1:0"],
    "replay.capacity": 10_000,
    "replay.min_size": 1,
    "replay.samples_per_insert": 0.0,
    "actor.insert_rows": 16,
    "learner.batch_size": 64,
}
_T = TypeVar("_T")


def program(name: str) -> Path:
    """Returns a program of this repository. Skips the test if it is not built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(os.environ.get("SAPEX_BINARIES", target / "debug")) / name
    if not path.exists():
        pytest.skip(f"SKIPPED: {path.name} is not built (cargo build --workspace)")
    return path


def until(what: str, ready: Callable[[], Optional[_T]], patience: float = PATIENCE) -> _T:
    """Polls until there is a result."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        result = ready()
        if result is not None:
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:g} s for {what}")


class Server:
    """One process. It can be killed, and started again at the same port."""

    def __init__(self, config: Path, log: Path, place: Tuple[int, int], args: List[str]) -> None:
        self._config = config
        self._log = log
        # The number of this server's entry in endpoints.replay, and the number of entries.
        self._index, self._entries = place
        self._args = ["--index", str(self._index), *args]
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.address = ""
        self.start()

    def start(self) -> None:
        """Starts the process. After the first time it listens at the port that the first one had."""
        entries = ["tcp://127.0.0.1:0"] * self._entries
        entries[self._index] = self.address or entries[self._index]
        at = ["--set", f"endpoints.replay={json.dumps(entries)}"]
        before = self.log().count("replay server listens")
        with self._log.open("a") as log:
            command = [str(program("replay-server")), "--config", str(self._config), *self._args, *at]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.address = until("the server to listen", lambda: self._listening(before))

    def _listening(self, before: int) -> Optional[str]:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        lines = [line for line in self.log().splitlines() if "replay server listens" in line]
        if len(lines) <= before:
            return None
        at: str = json.loads(lines[-1])["at"]
        return at

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def status(self) -> Dict[str, Any]:
        """Returns what the admin port says about each part of the server."""
        line = next(line for line in reversed(self.log().splitlines()) if "admin port open" in line)
        with urllib.request.urlopen(f"http://{json.loads(line)['address']}/status", timeout=PATIENCE) as answer:
            found: Dict[str, Any] = json.load(answer)
        return found

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the process as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)


class Servers:
    """The servers of one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: List[Server] = []

    def config(self, settings: Mapping[str, Any], name: str = "config.toml") -> Path:
        """Writes the settings of a run with every key, as the server prints them."""
        args = [arg for key, value in {**BASE, **settings}.items() for arg in ("--set", f"{key}={json.dumps(value)}")]
        shown = subprocess.run(
            [program("replay-server"), *args, "--print-config"], capture_output=True, text=True, timeout=PATIENCE
        )
        assert shown.returncode == 0, shown.stderr
        path = self._folder / name
        path.write_text(shown.stdout)
        return path

    def start(self, config: Path, *args: str, index: int = 0, entries: int = 1) -> Server:
        """Starts a server with these settings."""
        server = Server(config, self._folder / f"server-{len(self._started)}.log", (index, entries), list(args))
        self._started.append(server)
        return server

    def end(self) -> None:
        for server in self._started:
            server.kill()


def rows(numbers: NDArray[Any], obs_dim: int = 4, act_dim: int = 2) -> Dict[str, Any]:
    """Returns rows of BASE's layout whose rewards are these numbers."""
    count = len(numbers)
    return {
        "obs": np.zeros((count, obs_dim), np.float32),
        "action": np.zeros((count, act_dim), np.float32),
        "reward": np.asarray(numbers, np.float32),
        "discount": np.ones(count, np.float32),
        "next_obs": np.zeros((count, obs_dim), np.float32),
    }


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Lets a process stand still for a while."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
