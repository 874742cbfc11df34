"""Every pod of the dev overlay runs: it starts, becomes ready, learns, and stops, with and without TLS. There is no API server."""

import os
import re
import time

import pytest

import k8s
import kubelet
from engine import TAG, binaries, make_images, run

# Pendulum-v1: a random policy has about -1200, a good one -150.
LEARNT = -400
PATIENCE_S = 300


@pytest.fixture
def tag():
    """The tag of the images that tests make; skips, aloud, where there is no engine to run them."""
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
    """Certificates as cert-manager would put them into the secrets."""
    folder = tmp_path / "certificates"
    run(binaries() / "sapex", "certs", folder)
    roles = {"learner-tls": "learner", "replay-tls": "replay-server", "actor-tls": "actor-node"}
    return {secret: folder / role for secret, role in roles.items()}


def test_the_dev_overlay_runs(tag, tmp_path):
    runs(k8s.dev(), tmp_path, tag, {})


def test_the_dev_overlay_runs_with_tls(tag, tmp_path, certificates):
    runs(k8s.dev("tls"), tmp_path, tag, certificates)


def shards_of(replay):
    """The shards of a replay server that have taken rows."""
    series = re.findall(r'^sapex_replay_inserted_items_total\{(.*)\} [1-9]', replay.exposition(), re.MULTILINE)
    return sorted(re.search(r'shard="(\d+)"', labels)[1] for labels in series)


def runs(objects, folder, tag, secrets):
    """Starts every pod of these objects; they become ready, learn, and stop."""
    with kubelet.Node(objects, folder, tag, secrets) as node:
        # Actors first: whoever waits for a name that is not there yet must go on once it is.
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
            # Until the first evaluation the gauges say 0.
            if seen.get("sapex_evaluator_policy_versions") and returns[-1:] != [seen["sapex_evaluator_return"]]:
                returns.append(seen["sapex_evaluator_return"])
            return returns and returns[-1] > LEARNT

        wait_until("all containers are ready", all_ready)
        wait_until("the return rises", has_learnt)
        print(f"evaluations: {[round(each) for each in returns]}")
        # Rows go to every server, and each knows its own number.
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
