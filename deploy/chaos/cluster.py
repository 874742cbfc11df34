"""The compose cluster that the faults are injected into: its containers and their metrics."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ["docker-compose.yml", "deploy/compose/endless.yml", "deploy/chaos/compose.yml"]
SERVICES = ["learner", "replay-0", "replay-1", "actor", "evaluator", "prometheus"]
ROLES = SERVICES[:-1]
ACKNOWLEDGED = "sapex_actor_acknowledged_rows_total"
SCRAPE_EVERY = 0.2
LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def run(*command: str, **options) -> str:
    """Runs a command and returns its output. On failure, the error contains the output."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def compose_command() -> list[str]:
    """Returns the compose command of this machine: docker's plugin or docker-compose."""
    for command in (["docker", "compose"], ["docker-compose"], [str(ROOT / ".deploy-venv/bin/docker-compose")]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    raise RuntimeError("neither `docker compose` nor docker-compose is here")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@dataclass
class Container:
    """One container, with its state at the last query of the engine."""

    id: str
    name: str
    service: str
    pid: int
    address: str
    is_running: bool


@dataclass
class Life:
    """The metrics of one process from its start to its end, as of their last read."""

    service: str
    seen_at: float
    values: dict[str, float] = field(default_factory=dict)

    def sum(self, metric: str) -> float:
        return sum(value for name, value in self.values.items() if name == metric or name.startswith(metric + "{"))


def parse(text: str) -> dict[str, float]:
    """Parses a page in Prometheus' text format into samples by series."""
    found = (LINE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return {f"{m[1]}{{{m[2]}}}" if m[2] else m[1]: float(m[3]) for m in found if m}


class Cluster:
    """A compose project. A thread reads the metrics of every container a few times a second, so that the counters of
    processes that have ended are known."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.compose = compose_command()
        self.containers: list[Container] = []
        self.lives: dict[tuple[str, float], Life] = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.asked: set[str] = set()
        # Pairs of time and acknowledged rows of all actors over the last second, and the most rows within a second
        # since `take_peak`.
        self.track: list[tuple[float, float]] = []
        self.peak = 0.0
        self.pool = ThreadPoolExecutor(32)
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.environment = os.environ | {"COMPOSE_PROJECT_NAME": project}
        for port in ("SAPEX_LEARNER_PORT", "SAPEX_PROMETHEUS_PORT"):
            self.environment[port] = str(free_port())

    def do(self, *command: str) -> str:
        """Runs a compose command."""
        files = [word for file in FILES for word in ("--file", file)]
        return run(*self.compose, *files, *command, env=self.environment)

    def __enter__(self) -> "Cluster":
        try:
            self.do("up", "--detach")
        except BaseException:
            self.do("down", "--volumes")
            raise
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopping.set()
        self.thread.join()
        self.do("down", "--volumes")

    def refresh(self) -> list[Container]:
        """Updates the list of containers from the engine."""
        ids = run("docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}").split()
        found = []
        for told in json.loads(run("docker", "inspect", *ids)) if ids else []:
            networks = told["NetworkSettings"]["Networks"].values()
            address = next((network["IPAddress"] for network in networks if network["IPAddress"]), "")
            state = told["State"]
            service = told["Config"]["Labels"]["com.docker.compose.service"]
            is_running = state["Running"] and not state["Paused"]
            found.append(Container(told["Id"], told["Name"][1:], service, state["Pid"], address, is_running))
        self.containers = found
        return found

    def of(self, service: str) -> Container:
        """Returns the first container of a service, by name."""
        return min((c for c in self.refresh() if c.service == service), key=lambda c: c.name)

    def watch(self) -> None:
        """Reads the metrics of all containers until told to stop."""
        asked = 0.0
        while not self.stopping.is_set():
            begun = time.monotonic()
            if begun - asked > 1:
                try:
                    self.refresh()
                    asked = begun
                except RuntimeError:
                    pass  # a container vanished between the two queries; the next round repeats them
            for container in self.containers:
                if container.service in ROLES and container.is_running and container.id not in self.asked:
                    self.asked.add(container.id)
                    self.pool.submit(self.watch_one, container)
            self.track.append((begun, self.total("actor", ACKNOWLEDGED)))
            self.track = [(at, rows) for at, rows in self.track if at > begun - 1.0]
            self.peak = max(self.peak, self.track[-1][1] - self.track[0][1])
            self.stopping.wait(max(0.0, SCRAPE_EVERY - (time.monotonic() - begun)))

    def watch_one(self, container: Container) -> None:
        """Reads the metrics of one container, in a thread of its own, so that a slow one does not delay the others."""
        try:
            self.look(container)
        finally:
            self.asked.discard(container.id)

    def look(self, container: Container) -> bool:
        """Reads the metrics of one container and returns whether it answered."""
        page = self.page(container)
        if page is None:
            return False
        started = Life(container.service, 0.0, page).sum("process_start_time_seconds")
        if not started:
            raise RuntimeError(f"{container.name} does not say when it was started")
        with self.lock:
            life = self.lives.setdefault((container.id, started), Life(container.service, 0.0))
            life.values = page
            life.seen_at = time.monotonic()
        return True

    def look_at(self, services: list[str]) -> bool:
        """Reads the metrics of all containers of the given services now, and returns whether all answered."""
        asked = [container for container in self.containers if container.service in services]
        return all(self.pool.map(self.look, asked))

    @staticmethod
    def page(container: Container) -> dict[str, float] | None:
        try:
            with urllib.request.urlopen(f"http://{container.address}:9100/metrics", timeout=2) as answer:
                return parse(answer.read().decode())
        except OSError:
            return None

    def take_peak(self) -> float:
        """Returns the largest number of rows acknowledged within a second since the last call."""
        peak, self.peak = self.peak, 0.0
        return peak

    def fresh(self, since: float) -> list[Life]:
        """Returns the metrics of all processes that were read after `since`."""
        with self.lock:
            return [Life(life.service, life.seen_at, life.values) for life in self.lives.values() if life.seen_at > since]

    def total(self, service: str, metric: str) -> float:
        """Returns a counter of a service, summed over all its processes, including those that have ended."""
        with self.lock:
            return sum(life.sum(metric) for life in self.lives.values() if life.service == service)
