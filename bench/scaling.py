"""Measures what a row, a sampled item and a weight message cost, and checks the model of docs/scaling.md against runs with
1 to 64 actors and 1 to 8 replay servers, all of them processes of this machine. `make scaling` runs it.

Every cost is processor time per unit, read from the kernel's own account of each process, so that it does not depend on who waits
for whom. The script only uses loopback, stops what it starts and needs nothing but Python.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
WARM_UP_SECONDS = 2.0
# Random actions for ever, no limiter, nothing that ends the run.
ENDLESS = ["run.env_steps=0", "replay.samples_per_insert=0", "replay.capacity=200000"]
INSERTED = "sapex_replay_inserted_items_total"
SAMPLED = "sapex_replay_sampled_items_total"
UPDATES = "sapex_learner_done_updates_total"
PUBLISHED = "sapex_learner_weight_publications_total"
PUBLISHED_BYTES = "sapex_learner_published_bytes_total"


def free_ports(count: int) -> list[int]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Process:
    """One program of the cluster."""

    def __init__(self, binaries: Path, program: str, arguments: list[str], settings: list[str], log: Path):
        (self.admin,) = free_ports(1)
        command = [str(binaries / program), *arguments]
        for setting in [*settings, f'telemetry.admin="127.0.0.1:{self.admin}"', 'telemetry.log_filter="warn"']:
            command += ["--set", setting]
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(command, stdout=output, stderr=output)

    def metric(self, name: str) -> float:
        """Returns the sum over all series of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        self.child.terminate()
        self.wait()

    def wait(self) -> None:
        """Waits for the end; a process that does not end in time is killed."""
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Cluster:
    """Replay servers of one shard each, actors, and a learner if asked for."""

    def __init__(self, folder: Path, binaries: Path, settings: list[str], servers: int):
        self.folder, self.binaries = folder, binaries
        *replay, weights = free_ports(servers + 1)
        addresses = ", ".join(f'"tcp://127.0.0.1:{port}"' for port in replay)
        self.settings = [*ENDLESS, *settings, f"endpoints.replay=[{addresses}]", f'endpoints.weights="tcp://127.0.0.1:{weights}"']
        self.processes: list[Process] = []
        self.actors: list[Process] = []
        self.learner: Process | None = None
        self.servers = [self.start("replay-server", ["--index", str(index)]) for index in range(servers)]

    def start(self, program: str, arguments: list[str], settings: list[str] | None = None) -> Process:
        log = self.folder / f"{program}.log"
        process = Process(self.binaries, program, arguments, [*self.settings, *(settings or [])], log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Asks all processes to stop. An actor that the limiter holds takes some seconds to give up its rows."""
        for process in self.processes:
            process.child.terminate()
        for process in self.processes:
            process.wait()

    def act(self, actors: int, warm_up: int) -> None:
        settings = [f"actor.warmup_steps={warm_up}"]
        self.actors += [self.start("actor-node", [], [*settings, f"actor.id={len(self.actors) + index}"]) for index in range(actors)]

    def learn(self) -> None:
        self.learner = self.start("learner", ["--run-dir", str(self.folder / "run")])

    def retire(self, process: Process) -> None:
        self.processes.remove(process)
        process.stop()

    def inserted(self) -> float:
        return sum(server.metric(INSERTED) for server in self.servers)

    def wait(self, what: str, reached, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            dead = [process for process in self.processes if process.child.poll() is not None]
            if dead:
                raise RuntimeError(f"a process ended early: {dead[0].log.read_text()[-2000:]}")
            try:
                if reached():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} was not reached in {seconds:.0f} s")
            time.sleep(0.1)

    def window(self, seconds: float) -> dict[str, float]:
        """Measures for a while: counts and processor seconds of each role, per second of wall time."""
        learner = [self.learner] if self.learner else []

        def now() -> dict[str, float]:
            figures = {
                "at": time.monotonic(),
                "rows": self.inserted(),
                "sampled": sum(server.metric(SAMPLED) for server in self.servers),
                "cpu_actors": sum(actor.cpu_seconds() for actor in self.actors),
                "cpu_replay": sum(server.cpu_seconds() for server in self.servers),
                "cpu_learner": sum(each.cpu_seconds() for each in learner),
            }
            for each in learner:
                figures |= {name: each.metric(name) for name in (UPDATES, PUBLISHED, PUBLISHED_BYTES)}
            return figures

        before = now()
        time.sleep(seconds)
        after = now()
        wall = after.pop("at") - before["at"]
        return {name: (value - before[name]) / wall for name, value in after.items()}


@contextmanager
def cluster(options: argparse.Namespace, settings: list[str], servers: int):
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        running = Cluster(Path(folder), options.binaries, settings, servers)
        try:
            yield running
        finally:
            running.stop()


def inserts(options: argparse.Namespace, case: "Case", actors: int, servers: int) -> dict[str, float]:
    """Measures actors that fill tables as fast as they can. Nobody samples."""
    with cluster(options, case.settings, servers) as running:
        running.act(actors, warm_up=1 << 40)
        running.wait("1,000 rows per actor", lambda: running.inserted() > 1000 * actors)
        time.sleep(WARM_UP_SECONDS)
        return running.window(options.seconds)


def samples(options: argparse.Namespace, case: "Case", servers: int) -> dict[str, float]:
    """Measures a learner that samples full tables as fast as it can. Nobody inserts."""
    with cluster(options, case.settings, servers) as running:
        running.act(1, warm_up=1 << 40)
        running.wait("50,000 rows", lambda: running.inserted() > 50_000)
        running.retire(running.actors.pop())
        running.learn()
        running.wait("the first updates", lambda: running.learner.metric(UPDATES) > 500)
        time.sleep(WARM_UP_SECONDS)
        return running.window(options.seconds)


def weights(options: argparse.Namespace, case: "Case", actors: int) -> dict[str, float]:
    """Measures a learner that publishes often to actors that the limiter holds, so that they only receive weights."""
    held = [*case.settings, "replay.samples_per_insert=1000000", "replay.min_size=2000", "learner.publish_updates=5"]
    with cluster(options, held, 1) as running:
        running.act(actors, warm_up=100)
        running.learn()
        running.wait("the first updates", lambda: running.learner.metric(UPDATES) > 200)
        time.sleep(WARM_UP_SECONDS)
        return running.window(options.seconds)


class Case:
    """An environment with its settings, and the bytes of its rows."""

    def __init__(self, env: str, row_bytes: int, insert_rows: int, *settings: str):
        self.name = f"{env}, {insert_rows} rows per batch"
        self.row_bytes, self.insert_rows = row_bytes, insert_rows
        self.settings = [f'cluster.env="{env}"', "actor.num_envs=8", f"actor.insert_rows={insert_rows}", *settings]


SMALL = ("cluster.hidden=[64, 64]", "learner.critic_hidden=[64, 64]")
PENDULUM_8 = Case("Pendulum-v1", 44, 8, *SMALL)
PENDULUM_64 = Case("Pendulum-v1", 44, 64, *SMALL)
CHEETAH = Case("HalfCheetah-v5", 176, 64)
ACTORS = (1, 2, 4, 8, 16, 32, 64)
SERVERS = (1, 2, 4, 8)


def table(*heads: str):
    """Prints the heads of a table; returns a function that prints one of its lines."""
    widths = [max(9, len(head)) for head in heads]

    def line(*cells) -> None:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)

    line(*heads)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/release")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--only", choices=["inserts", "samples", "weights"], help="one of the three parts")
    parser.add_argument("--out", type=Path, help="a file for the raw figures, as JSON")
    options = parser.parse_args()
    raw = {"cores": CORES, "seconds": options.seconds}
    parts = {"inserts": check_inserts, "samples": check_samples, "weights": check_weights}
    for name, part in parts.items():
        if options.only in (None, name):
            raw[name] = part(options)
    if options.out:
        options.out.write_text(json.dumps(raw, indent=1) + "\n")


def check_inserts(options: argparse.Namespace) -> list[dict]:
    records = []
    for case in (PENDULUM_8, PENDULUM_64, CHEETAH):
        print(f"\n{case.name}: rows inserted, nobody samples")
        line = table("actors", "servers", "rows/s", "model", "measured/model", "actor us/row", "replay us/row")
        combinations = [(n, 1) for n in ACTORS] + [(8, s) for s in SERVERS[1:]] + [(64, 8)]
        if case is CHEETAH:
            combinations = [(1, 1), (4, 1), (16, 2), (64, 8)]
        measured: dict[tuple[int, int], float] = {}
        for actors, servers in combinations:
            figures = inserts(options, case, actors, servers)
            rows = measured[actors, servers] = figures["rows"]
            actor, replay = (1e6 * figures[role] / rows for role in ("cpu_actors", "cpu_replay"))
            # Two of the runs give the constants: one actor alone, and all cores full. Every other run is a prediction.
            full = measured.get((4, 1))
            model = full and min(actors * measured[1, 1], full)
            predicted = (f"{model:.0f}", f"{rows / model:.2f}") if model else ("", "")
            line(actors, servers, f"{rows:.0f}", *predicted, f"{actor:.2f}", f"{replay:.2f}")
            records.append({"case": case.name, "actors": actors, "servers": servers, "actor_us": actor, "replay_us": replay, **figures})
    cost = {r["case"]: (r["actor_us"], r["replay_us"]) for r in records if (r["actors"], r["servers"]) == (4, 1)}
    # A row costs r + c / k with k rows per batch. Two batch sizes give c, and two row sizes give the cost of a byte.
    few, many = 1 / PENDULUM_8.insert_rows, 1 / PENDULUM_64.insert_rows
    per_batch = [(a - b) / (few - many) for a, b in zip(cost[PENDULUM_8.name], cost[PENDULUM_64.name], strict=True)]
    small, large = (cost[case.name][1] - per_batch[1] * many for case in (PENDULUM_64, CHEETAH))
    print(f"\nwith 4 actors: c_a = {per_batch[0]:.0f} us and c_r = {per_batch[1]:.0f} us per batch")
    for case in (PENDULUM_64, CHEETAH):
        print(f"a = {cost[case.name][0] - per_batch[0] * many:.2f} us per row of {case.name.split(',')[0]}")
    print(f"r = {1e3 * (large - small) / (CHEETAH.row_bytes - PENDULUM_64.row_bytes):.1f} ns per byte of a row")
    return records


def check_samples(options: argparse.Namespace) -> list[dict]:
    records = []
    for case in (PENDULUM_64, CHEETAH):
        print(f"\n{case.name}: a learner samples, nobody inserts")
        line = table("servers", "updates/s", "items/s", "replay us/update", "learner us/update")
        costs = []
        for servers in SERVERS:
            figures = samples(options, case, servers)
            updates = figures[UPDATES]
            costs.append([1e6 * figures[role] / updates for role in ("cpu_replay", "cpu_learner")])
            line(servers, f"{updates:.0f}", f"{figures['sampled']:.0f}", *(f"{cost:.0f}" for cost in costs[-1]))
            records.append({"case": case.name, "servers": servers, **figures})
        q_r, q_l = ((costs[-1][role] - costs[0][role]) / (SERVERS[-1] - SERVERS[0]) for role in (0, 1))
        print(f"q_r = {q_r:.0f} us and q_l = {q_l:.0f} us per update and server")
    return records


def check_weights(options: argparse.Namespace) -> list[dict]:
    records, sizes, sent, received = [], [], [], []
    for case in (PENDULUM_64, CHEETAH):
        print(f"\n{case.name}: weights, published every 5 updates, to actors that only receive")
        line = table("actors", "updates/s", "messages/s", "bytes", "learner us/update", "actor us/message")
        learners = []
        for actors in ACTORS:
            figures = weights(options, case, actors)
            updates, messages = figures[UPDATES], figures[PUBLISHED]
            learner = 1e6 * figures["cpu_learner"] / updates
            actor = 1e6 * figures["cpu_actors"] / messages / actors
            size = figures[PUBLISHED_BYTES] / messages
            line(actors, f"{updates:.0f}", f"{messages:.0f}", f"{size:.0f}", f"{learner:.0f}", f"{actor:.0f}")
            records.append({"case": case.name, "actors": actors, **figures})
            learners.append(learner)
        # The last line has the most subscribers, so that the noise of the update matters least. The cheapest line stands
        # for an update without them.
        sizes.append(size)
        sent.append((learner - min(learners)) * updates / messages / (actors - 1))
        received.append(actor)
    for name, costs in (("w", sent), ("v", received)):
        per_byte = (costs[1] - costs[0]) / (sizes[1] - sizes[0])
        print(f"{name}_0 = {costs[0] - per_byte * sizes[0]:.0f} us per message, {name}_1 = {1e3 * per_byte:.2f} ns per byte")
    return records


if __name__ == "__main__":
    main()
