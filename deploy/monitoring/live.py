"""A small cluster on this machine with a real Prometheus, and the queries that Grafana would send to it.

All ports are on 127.0.0.1. All processes end with their `with` block.
"""

import json
import math
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

RULES = Path(__file__).resolve().parent / "rules"
SCRAPE = 1


def free_ports(count):
    """Returns ports that are free at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Processes:
    """Named processes, each with its own log. None of them outlives the `with` block."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.terminate()
        for name in list(self.running):
            self.end(name)

    def start(self, name, *command):
        """Starts a process, or starts it again under the same name."""
        with self.log(name).open("a") as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)

    def end(self, name, how=signal.SIGTERM):
        """Stops a process. SIGKILL follows if it takes longer than 15 s."""
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name):
        """Returns the path of a process's log."""
        return self.folder / f"{name}.log"

    def ended(self):
        """Returns the processes that have ended without `end`, each with the end of its log."""
        gone = [name for name, process in self.running.items() if process.poll() is not None]
        return "\n".join(f"{name}:\n{self.log(name).read_text()[-2000:]}" for name in gone)


class Cluster(Processes):
    """Two replay servers, a learner, two actors, an evaluator, and Prometheus with the rules of this folder."""

    def __init__(self, programs, prometheus, folder):
        super().__init__(folder)
        self.programs = programs
        names = ["learner", "replay-0", "replay-1", "actor-0", "actor-1", "evaluator"]
        *ports, weights, replay_0, replay_1, web = free_ports(len(names) + 4)
        self.admin = dict(zip(names, ports))
        (folder / "cluster.toml").write_text(f"""
[cluster]
env = "Pendulum-v1"
[endpoints]
replay = ["tcp://127.0.0.1:{replay_0}", "tcp://127.0.0.1:{replay_1}"]
weights = "tcp://127.0.0.1:{weights}"
[run]
name = "pendulum"
env_steps = 0
target_return = inf
[learner]
lr_actor = 2e-4
lr_critic = 2e-4
log_updates = 100
checkpoint_updates = 5000
[evaluator]
episodes = 10
""")
        jobs = {}
        for name, port in self.admin.items():
            jobs.setdefault(name.split("-")[0], []).append(f"127.0.0.1:{port}")
        configuration = {
            "global": {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"},
            "rule_files": [f"{RULES}/*.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
            ],
        }
        # JSON is valid YAML.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self.prometheus = Prometheus(f"http://127.0.0.1:{web}")
        self.prometheus_command = [
            prometheus,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{web}",
        ]

    def __enter__(self):
        self.start("prometheus", *self.prometheus_command)
        for name in self.admin:
            self.role(name)
        return self

    def role(self, name):
        """Starts the process of a role, or starts it again."""
        role, _, number = name.partition("-")
        run = ["--run-dir", self.folder / "run"]
        program, *further = {
            "learner": ["learner", *run, "--resume"],
            "replay": ["replay-server", "--index", number],
            "actor": ["actor-node", "--set", f"actor.id={number}"],
            "evaluator": ["actor-node", "--evaluate", *run],
        }[role]
        admin = f'telemetry.admin="127.0.0.1:{self.admin[name]}"'
        self.start(name, self.programs / program, "--config", self.folder / "cluster.toml", "--set", admin, *further)


class Prometheus:
    """HTTP client of a Prometheus server."""

    def __init__(self, address):
        self.address = address

    def get(self, path, **arguments):
        """Returns the `data` of an answer. On failure, the error contains Prometheus' message."""
        query = urllib.parse.urlencode(arguments, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{arguments}: {error.read().decode()}") from error

    def is_up(self):
        """Returns whether the server answers."""
        try:
            return bool(self.get("status/buildinfo"))
        except OSError:
            return False

    def now(self, expr):
        """Returns labels and value of each series that has a value now and is not NaN."""
        found = [(each["metric"], float(each["value"][1])) for each in self.get("query", query=expr)["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def over(self, expr, start, end, step):
        """Returns labels and (time, value) pairs of each series between two times."""
        answer = self.get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [(each["metric"], [(at, float(value)) for at, value in each["values"]]) for each in answer]


def escaped(value):
    """Escapes a value for a regular expression, as Grafana's Prometheus data source does."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


class Asked:
    """The queries of a dashboard, with its variables set to "All" and for the displayed time range."""

    def __init__(self, board, prometheus, seconds):
        self.board = board
        self.values = {}
        step = max(SCRAPE, seconds / 1000)
        self.times = {
            "__rate_interval": f"{math.ceil(max(step + SCRAPE, 4 * SCRAPE))}s",
            "__range": f"{math.ceil(seconds)}s",
        }
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                query = self.put_in(variable["query"]["query"])
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
                found = prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]})
                self.values[variable["name"]] = found

    def put_in(self, text):
        """Returns the text with all variables replaced. An undefined variable is an error."""

        def value(match):
            name = match[1] or match[2]
            if name in self.times:
                return self.times[name]
            values = [escaped(value) for value in self.values[name]]
            return values[0] if len(values) == 1 else f"({'|'.join(values)})"

        return re.sub(r"\$(\w+)|\$\{(\w+)\}", value, text)

    def queries(self):
        """Yields panel, target and expression of each query."""
        for panel in self.board["panels"]:
            for target in panel.get("targets", []):
                yield panel, target, self.put_in(target["expr"])


def until(what, ready, seconds, processes):
    """Waits until `ready` returns a true value, and returns it. Fails if a process ends in the meantime."""
    began = time.monotonic()
    while not (result := ready()):
        assert not processes.ended(), processes.ended()
        assert time.monotonic() - began < seconds, f"waited more than {seconds} s for {what()}"
        time.sleep(0.5)
    return result
