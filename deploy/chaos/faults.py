"""Faults for the cluster. Each is a context manager: entering it injects the fault, leaving it undoes the fault."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster import SERVICES, Cluster, run

# Above the five seconds after which a silent connection is closed.
OUTAGE = 10.0
SLOW = 15.0


class Skipped(Exception):
    """This machine cannot inject the fault."""


@dataclass
class Fault:
    """One fault, and the services whose processes end because of it."""

    kind: str
    target: str
    do: Callable[[Cluster], AbstractContextManager]
    dead: set[str] = field(default_factory=set)
    # Whether the learner must make progress during the fault.
    goes_on: bool = False


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise Skipped(f"{what} needs root on the machine that the containers run on")


def inside(pid: int, *command: str) -> str:
    """Runs a command of this machine in a container's network namespace. Needs root."""
    need_root("a fault in a container's network")
    return run("nsenter", "--target", str(pid), "--net", *command)


@contextmanager
def killed(cluster: Cluster, service: str) -> Iterator[None]:
    """Sends SIGKILL from outside the engine, like the kernel's out-of-memory killer. The restart policy restarts the
    container."""
    container = cluster.of(service)
    if os.geteuid() == 0 and Path(f"/proc/{container.pid}").exists():
        cluster.look(container)
        os.kill(container.pid, 9)
        yield
    else:
        # The engine does not restart a container that it was asked to kill.
        cluster.look(container)
        run("docker", "kill", container.id)
        yield
        run("docker", "start", container.id)


@contextmanager
def paused(cluster: Cluster, service: str) -> Iterator[None]:
    container = cluster.of(service)
    run("docker", "pause", container.id)
    try:
        time.sleep(OUTAGE)
        yield
    finally:
        run("docker", "unpause", container.id)


@contextmanager
def unlinked(cluster: Cluster, one: str, other: str) -> Iterator[None]:
    """Blocks all packets from one container to the other. All other connections of both stay open."""
    here, there = cluster.of(one), cluster.of(other)
    inside(here.pid, "ip", "route", "add", "blackhole", f"{there.address}/32")
    try:
        time.sleep(OUTAGE)
        yield
    finally:
        inside(here.pid, "ip", "route", "del", "blackhole", f"{there.address}/32")


@contextmanager
def disconnected(cluster: Cluster, service: str) -> Iterator[None]:
    """Disconnects a container from the network and connects it again, possibly with another address."""
    container, network = cluster.of(service), f"{cluster.project}_default"
    run("docker", "network", "disconnect", network, container.id)
    try:
        time.sleep(OUTAGE)
        yield
    finally:
        run("docker", "network", "connect", "--alias", service, network, container.id)


@contextmanager
def slowed(cluster: Cluster, service: str) -> Iterator[None]:
    """Delays a container's outgoing packets, or limits their rate if the kernel cannot delay them."""
    container = cluster.of(service)
    # "default via 172.18.0.1 dev eth0": the device number changes after a container was unplugged.
    device = inside(container.pid, "ip", "route", "show", "default").split()[4]
    ways = [
        ["netem", "delay", "50ms", "20ms"],
        ["tbf", "rate", "8mbit", "burst", "32kb", "latency", "400ms"],
    ]
    for way in ways:
        try:
            inside(container.pid, "tc", "qdisc", "add", "dev", device, "root", *way)
            break
        except (RuntimeError, FileNotFoundError) as error:
            reason = error
    else:
        raise Skipped(f"neither netem nor tbf can be set: {reason}")
    try:
        time.sleep(SLOW)
        yield
    finally:
        inside(container.pid, "tc", "qdisc", "del", "dev", device, "root")


@contextmanager
def filled(cluster: Cluster) -> Iterator[None]:
    """Fills the volume of the checkpoints until writing one fails. Afterwards a checkpoint must succeed."""
    need_root("filling a volume")
    mounted = Path(run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", f"{cluster.project}_runs").strip())
    failed = "sapex_learner_failed_checkpoints_total"
    before = cluster.total("learner", failed)
    filler = mounted / "filler"
    try:
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)
        wait_until(lambda: cluster.total("learner", failed) > before, 60, "a checkpoint fails on the full volume")
        time.sleep(OUTAGE / 2)
        yield
    finally:
        filler.unlink(missing_ok=True)
    emptied = time.time()
    written = "sapex_learner_checkpoint_written_seconds"
    wait_until(
        lambda: max(life.sum(written) for life in cluster.fresh(time.monotonic() - 5) if life.service == "learner") > emptied,
        60,
        "a checkpoint is written once there is room",
    )


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


@contextmanager
def rolled(cluster: Cluster, service: str) -> Iterator[None]:
    """Stops every container of a service in order and creates it again, as an upgrade does. A replay server must keep
    its rows."""
    table = "sapex_replay_table_items"

    def rows(since: float) -> float:
        return max((life.sum(table) for life in cluster.fresh(since) if life.service == service), default=0.0)

    before = rows(time.monotonic() - 2)
    cluster.do("up", "--detach", "--no-deps", "--force-recreate", service)
    anew = time.monotonic()
    yield
    wait_until(lambda: rows(anew) >= before, 30, f"the {before:.0f} rows of {service} are back")


def kill(service: str) -> Fault:
    return Fault("kill", service, lambda cluster: killed(cluster, service), {service})


def pause(service: str) -> Fault:
    # The learner does without a paused shard, and a paused actor is one of several.
    return Fault("pause", service, lambda cluster: paused(cluster, service), goes_on=service in ("actor", "evaluator", "prometheus"))


def cut(one: str, other: str) -> Fault:
    return Fault("cut", f"{one} - {other}", lambda cluster: unlinked(cluster, one, other))


def unplug(service: str) -> Fault:
    return Fault("unplug", service, lambda cluster: disconnected(cluster, service))


def slow(service: str) -> Fault:
    return Fault("slow", service, lambda cluster: slowed(cluster, service), goes_on=True)


def roll(service: str) -> Fault:
    return Fault("roll", service, lambda cluster: rolled(cluster, service), {service})


FILL = Fault("fill", "volume of checkpoints", filled, goes_on=True)
SHORT = [kill("learner"), kill("replay-1"), pause("actor")]
ALL = [
    *map(kill, SERVICES),
    *map(pause, SERVICES),
    *(cut("actor", other) for other in ("replay-0", "replay-1", "learner")),
    *(cut("learner", other) for other in ("replay-0", "replay-1")),
    cut("evaluator", "learner"),
    *map(unplug, ("learner", "replay-0", "actor", "evaluator")),
    *map(slow, ("learner", "replay-0", "actor")),
    FILL,
    *map(roll, SERVICES),
]
