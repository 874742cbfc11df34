"""`deploy/slurm/sapex.sbatch` under a real Slurm: the job trains, is requeued twice, and completes."""

import json
import os
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, TOOLS, debian_tool
from slurm_cluster import NODES, Cluster, missing_rights

SCRIPT = ROOT / "deploy/slurm/sapex.sbatch"
PACKAGES = {
    "slurmctld": "usr/sbin/slurmctld-wlm",
    "slurmd": "usr/sbin/slurmd-wlm",
    "slurm-client": "usr/bin/sbatch",
    "slurm-wlm-basic-plugins": "usr/lib",
    "munge": "usr/sbin/munged",
    "libmunge2": "usr/lib",
    "libhwloc15": "usr/lib",
    "libjson-c5": "usr/lib",
    "liblua5.1-0": "usr/lib",
    "libnuma1": "usr/lib",
    "libyaml-0-2": "usr/lib",
    "libdbus-1-3": "usr/lib",
}
SETTINGS = """
[run]
grace = "4s"
[cluster]
env = "Pendulum-v1"
hidden = [16, 16]
[learner]
critic_hidden = [16, 16]
backend = "native"
batch_size = 32
checkpoint_updates = 500
updates_max = {updates_max}
[replay]
min_size = 200
samples_per_insert = 32.0
[actor]
warmup_steps = 100
[evaluator]
episodes = 1
"""


def programs() -> Path:
    """Returns the folder of the programs. Skips the test if they are not built."""
    named = os.environ.get("SAPEX_BIN")
    for folder in [Path(named)] if named else [ROOT / "target/release", ROOT / "target/debug"]:
        if all((folder / name).exists() for name in ("sapex", "learner", "actor-node", "replay-server")):
            return folder
    pytest.skip("SKIPPED: no programs: make build, or SAPEX_BIN")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    programs()
    reason = missing_rights()
    if reason:
        pytest.skip(f"SKIPPED: {reason}")
    for package, path in PACKAGES.items():
        assert debian_tool(package, path).exists(), f"{package} has no {path}"
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), TOOLS)
    yield cluster
    cluster.close()


class Job:
    """A submitted job and the files in its folder. It runs without an end until `ends_at` is called."""

    def __init__(self, slurm: Cluster, folder: Path, *arguments: str, **environment: str):
        self.slurm = slurm
        self.folder = folder
        self.run = folder / "run"
        folder.mkdir()
        self.ends_at(0)
        components = "--gres=none : --ntasks-per-node=2 : --nodes=1 --ntasks=2".split()
        submitted = ["sbatch", "--parsable", *components, str(SCRIPT), "--config", "settings.toml", *arguments]
        environment |= {"SAPEX_BIN": str(programs()), "SAPEX_JOB": str(folder)}
        self.id = slurm.run(*submitted, cwd=folder, **environment).strip()

    def ends_at(self, updates: int) -> None:
        """Sets the number of updates at which the job ends, from its next start on."""
        (self.folder / "settings.toml").write_text(SETTINGS.format(updates_max=updates))

    def log(self) -> str:
        path = self.folder / f"sapex-{self.id}.log"
        return path.read_text() if path.exists() else ""

    def records(self, kind: str) -> list[dict]:
        path = self.run / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [record for record in map(json.loads, filter(lambda line: line.endswith("\n"), lines)) if record["kind"] == kind]

    def updates(self) -> int:
        return max((record["updates"] for record in self.records("train")), default=0)

    def saved(self) -> int:
        """Returns the number of updates in the newest checkpoint."""
        return max(int(path.name.removeprefix("update-")) for path in self.run.glob("checkpoints/update-*"))

    def targets(self) -> list[str]:
        """Returns the admin addresses of all programs."""
        listed = [json.loads(path.read_text()) for path in self.folder.glob("targets/*.json")]
        return [target for entries in listed for entry in entries for target in entry["targets"]]

    def everything(self) -> str:
        """Returns the ends of all logs, for the message of a failed test."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("logs/*")]
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in logs)

    def reaches(self, state: str, seconds: float) -> None:
        """Waits until all components of the job are in this state."""
        end = time.monotonic() + seconds
        while self.slurm.states(self.id) != {state}:
            assert time.monotonic() < end, f"job {self.id} is not {state} but {self.slurm.states(self.id)}\n{self.everything()}"
            time.sleep(0.2)

    def trains(self, start: int, updates: int) -> None:
        """Waits until the job has started `start` times and the learner has done `updates` updates."""
        end = time.monotonic() + 60
        while len(self.records("start")) < start or self.updates() < updates:
            assert time.monotonic() < end and "FAILED" not in self.slurm.states(self.id), self.everything()
            time.sleep(0.2)

    def queued_again(self) -> int:
        """Waits until the job is pending again, and returns the number of updates that the learner saved."""
        self.reaches("PENDING", 40)
        return self.saved()


def test_it_trains_and_goes_on_after_it_was_queued_again(slurm, tmp_path):
    job = Job(slurm, tmp_path / "job")
    job.trains(1, 500)
    targets = job.targets()
    assert sorted({target.split(":")[0] for target in targets}) == list(NODES)
    assert len(set(targets)) == 6, targets
    for target in targets:
        assert "200 OK" in slurm.get(target, "/healthz"), target
        assert f'run="slurm-{job.id}"' in slurm.get(target, "/metrics"), target

    slurm.run("scontrol", "requeue", job.id)
    saved = job.queued_again()
    assert saved >= 500
    slurm.starts_again(job.id)
    job.trains(2, saved + 500)
    assert job.records("start")[1]["updates"] == saved

    # The node that ran the learner is now the last choice.
    first, second = re.findall(r"start \d .*learner on (\w+)", job.log())
    assert first != second

    # Slurm sends this signal before the time limit ends.
    slurm.run("scancel", "--batch", "--signal=TERM", job.id)
    saved = job.queued_again()
    assert "asks to be queued again" in job.log()
    job.ends_at(saved + 300)
    slurm.starts_again(job.id)
    job.reaches("COMPLETED", 60)
    assert job.records("start")[2]["updates"] == saved
    assert job.saved() == saved + 300
    assert "the run is at its end" in job.log()
    assert not slurm.running(str(programs()))


def test_it_trains_with_mutual_tls(slurm, tmp_path):
    job = Job(slurm, tmp_path / "job", SAPEX_TLS="1")
    job.trains(1, 300)
    assert len(job.targets()) == 6
    for target in job.targets():
        assert "sapex_tls_certificate_expiry_seconds" in slurm.get(target, "/metrics"), target
    readable = [path for path in job.folder.rglob("*") if path.stat().st_mode & 0o077]
    assert {path.name for path in readable} <= {"settings.toml", f"sapex-{job.id}.log"}
    assert not list(job.folder.rglob("ca.key"))
    slurm.run("scancel", job.id)
    job.reaches("CANCELLED", 30)


def test_a_setting_that_cannot_be_ends_the_job(slurm, tmp_path):
    job = Job(slurm, tmp_path / "job", "--set", "learner.tau=2")
    job.reaches("FAILED", 30)
    assert "learner.tau" in job.everything()
    shown = slurm.run("scontrol", "show", "job", job.id)
    assert "ExitCode=2:0" in shown and "Restarts=0" in shown
    assert not slurm.running(str(programs()))


def test_the_script_names_settings_that_exist():
    known = tomllib.loads((ROOT / "config/default.toml").read_text())
    named = {found for found in re.findall(r"SAPEX__([A-Z]+)__([A-Z_]+)=", SCRIPT.read_text())}
    assert len(named) >= 4
    unknown = [f"{section}.{key}" for section, key in named if key.lower() not in known.get(section.lower(), {})]
    assert not unknown, unknown
