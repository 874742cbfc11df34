"""Every pod of the dev overlay starts, becomes ready, learns and stops, with and without TLS. There is no API
server."""

import os
import re
import time

import pytest

import k8s
import kubelet
from engine import TAG, binaries, make_images, run

# Mean return of Pendulum-v1: about -1200 for a random policy, about -150 for a good one.
LEARNT = -400
PATIENCE_S = 300


@pytest.fixture
def tag():
    """Returns the tag of the test images. Skips the test with a message without root or without an engine."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: volumes are handed to a group, which needs root")
    make_images()
    return TAG


def wait_until(what, condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not (reached := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(1)
    return reached


@pytest.fixture
def certificates(tmp_path):
    """Returns certificates by secret, as cert-manager would issue them."""
    folder = tmp_path / "certificates"
    run(binaries() / "sapex", "certs", folder)
    roles = {"learner-tls": "learner", "replay-tls": "replay-server", "actor-tls": "actor-node"}
    return {secret: folder / role for secret, role in roles.items()}


def test_the_dev_overlay_runs(tag, tmp_path):
    runs(k8s.dev(), tmp_path, tag, {})


def test_the_dev_overlay_runs_with_tls(tag, tmp_path, certificates):
    runs(k8s.dev("tls"), tmp_path, tag, certificates)


def shards_of(replay):
    """Returns the shards of a replay server that have stored rows."""
    series = re.findall(r'^sapex_replay_inserted_items_total\{(.*)\} [1-9]', replay.exposition(), re.MULTILINE)
    return sorted(re.search(r'shard="(\d+)"', labels)[1] for labels in series)


def runs(objects, folder, tag, secrets):
    """Starts every pod of these objects, waits until they are ready and have learnt, and stops them."""
    with kubelet.Node(objects, folder, tag, secrets) as node:
        # Start the actors first: processes must tolerate names that do not resolve yet.
        order = sorted(k8s.workloads(objects), key=lambda each: ("actor", "learner", "replay").index(each.component))
        pods = {workload.component: list(node.pods_of(workload)) for workload in order}
        for pod in node.pods:
            pod.start()
        containers = {each.name: each for pod in node.pods for each in pod.containers}
        assert sorted(containers) == [
            "actor-0/actor",
            "actor-1/actor",
            "learner-0/evaluator",
            "learner-0/learner",
            "replay-0/replay",
            "replay-1/replay",
        ]
        returns = []

        def all_ready():
            for each in containers.values():
                each.expect_alive()
            return all(each.ready for each in containers.values())

        def has_learnt():
            for each in containers.values():
                each.expect_alive()
            seen = containers["learner-0/evaluator"].metrics()
            # The gauges are 0 until the first evaluation.
            if seen.get("sapex_evaluator_policy_versions") and returns[-1:] != [seen["sapex_evaluator_return"]]:
                returns.append(seen["sapex_evaluator_return"])
            return returns and returns[-1] > LEARNT

        wait_until("all containers are ready", all_ready)
        wait_until("the return rises", has_learnt)
        print(f"evaluations: {[round(each) for each in returns]}")
        # Every server receives rows and exports its own shard number.
        shards = [shards_of(each) for name, each in containers.items() if name.startswith("replay")]
        assert sorted(shards) == [["0"], ["1"]]
        for component in ("actor", "learner", "replay"):
            for pod in pods[component]:
                for name, status in pod.stop().items():
                    assert status == 0, f"{name}: {status}\n{containers[name].log()[-4000:]}"
        learner = node.folder / "claims/runs-learner-0/cluster"
        assert list((learner / "checkpoints").iterdir()), "the learner left no checkpoint"
        for pod in pods["replay"]:
            rows = node.folder / f"claims/rows-{pod.name}/cluster/replay"
            assert list(rows.rglob("*.rows")), f"{pod.name} left no rows"
