"""Places and refusals: what a server refuses, and what a client makes of it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from sapex_replay import ReplayClient, Refused, TimedOut, refusals
from servers import Servers, rows, stopped, until


def test_other_settings_are_refused_and_named_with_both_values(servers: Servers) -> None:
    server = servers.start(servers.config({}))
    other = servers.config({"cluster.n_step": 3, "cluster.gamma": 0.5}, "other.toml")
    with ReplayClient(server.address, config=other) as client:
        with pytest.raises(Refused) as caught:
            client.insert(rows(np.arange(1)))
        assert caught.value.server == server.address
        assert caught.value.refusal == refusals.Cluster(
            (
                "cluster.gamma is 0.99 on the server and 0.5 on the client",
                "cluster.n_step is 1 on the server and 3 on the client",
            )
        )
        # It is final: every later call says so at once.
        began = time.monotonic()
        with pytest.raises(Refused, match="cluster.n_step is 1 on the server"):
            client.insert(rows(np.arange(1)))
        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    "settings, call, difference",
    [
        ({"actor.insert_rows": 17}, "insert", "actor.insert_rows is 16 on the server and 17 on the client"),
        ({"learner.batch_size": 65}, "sample", "learner.batch_size is 64 on the server and 65 on the client"),
        ({"replay.shards": 2}, "sample", "replay.shards is 1 on the server and 2 on the client"),
    ],
)
def test_settings_outside_cluster_that_do_not_fit_are_named(
    servers: Servers, settings: Dict[str, Any], call: str, difference: str
) -> None:
    server = servers.start(servers.config({}))
    with ReplayClient(server.address, config=servers.config(settings, "other.toml")) as client:
        with pytest.raises(Refused) as caught:
            client.insert(rows(np.arange(1))) if call == "insert" else client.sample(1)
        assert isinstance(caught.value.refusal, refusals.Settings)
        assert difference in caught.value.refusal.differences


def test_the_place_of_a_living_learner_is_refused_until_patience_ends(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as first:
        first.insert(rows(np.arange(8)))
        first.sample(1)
        with ReplayClient(server.address, config=config, place_patience=4.0) as second:
            with pytest.raises(TimedOut, match="another process is the learner"):
                second.sample(1, timeout=2.0)
            with pytest.raises(Refused, match="another process is the learner") as caught:
                second.sample(1)
            assert isinstance(caught.value.refusal, refusals.InUse)
            assert caught.value.refusal.silent_ms < 2000
            # As an actor the second client is as good as the first.
            second.insert(rows(np.arange(8)))
        first.sample(1)


def test_a_client_that_is_idle_keeps_its_place(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    with ReplayClient(server.address, config=config, actor_id=3) as first:
        first.insert(rows(np.arange(8)))
        time.sleep(6.0)
        with ReplayClient(server.address, config=config, actor_id=3, place_patience=0.0) as second:
            with pytest.raises(Refused, match="another process is actor 3"):
                second.insert(rows(np.arange(8)))
        first.insert(rows(np.arange(8)))


def test_a_client_that_stood_still_is_superseded_and_its_successor_goes_on(servers: Servers, tmp_path: Path) -> None:
    config = servers.config({})
    server = servers.start(config)
    script = """
import json, sys
import numpy as np
from sapex_replay import ReplayClient, Refused
from servers import rows
address, config = sys.argv[1:]
client = ReplayClient(address, config=config, actor_id=5)
client.insert(rows(np.arange(4)))
print("inserted", flush=True)
sys.stdin.readline()
try:
    while True:
        client.insert(rows(np.arange(4)))
except Refused as error:
    print(json.dumps([type(error.refusal).__name__, error.refusal.who]), flush=True)
client.close()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    old = subprocess.Popen(
        [sys.executable, "-c", script, server.address, str(config)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert old.stdout is not None and old.stdin is not None
    try:
        assert old.stdout.readline() == "inserted\n"
        with ReplayClient(server.address, config=config, actor_id=5) as new:
            with stopped(old.pid):
                # The new client asks until the old one has been silent for 5 s.
                new.insert(rows(np.arange(4)))
            old.stdin.write("go on\n")
            old.stdin.flush()
            assert json.loads(old.stdout.readline()) == ["Superseded", "actor 5"]
            new.insert(rows(np.arange(4)))
            assert old.wait(30) == 0
            until("all rows", lambda: True if new.status()[0].inserts >= 12 else None)
    finally:
        old.kill()


def test_drawn_ids_that_are_taken_are_drawn_again(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    from sapex_replay.inserter import Inserter

    config = servers.config({})
    server = servers.start(config)
    ids = iter([1 << 20, 1 << 20, (1 << 20) + 1])
    monkeypatch.setattr(Inserter, "_draw", staticmethod(lambda: next(ids)))
    with ReplayClient(server.address, config=config) as first:
        first.insert(rows(np.arange(4)))
        # It has no patience, and needs none.
        with ReplayClient(server.address, config=config, place_patience=0.0) as second:
            second.insert(rows(np.arange(4)))
        assert {1 << 20, (1 << 20) + 1} == set(first.sample(64).actors.tolist())


def test_looking_at_the_status_takes_no_learners_place(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as watcher, ReplayClient(server.address, config=config) as client:
        assert [(shard.items, shard.is_up) for shard in watcher.status()] == [(0, True)]
        client.insert(rows(np.arange(8)))
        client.sample(1)
        until("the items", lambda: True if watcher.status()[0].items == 8 else None)
