"""The life of a client: closing, forgetting to close, and forks."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from sapex_replay import Closed, ReplayClient
from servers import Servers, rows, until
from test_settings import sections


def test_leaving_the_block_delivers_what_was_inserted_without_waiting(servers: Servers) -> None:
    config = servers.config({"actor.insert_rows": 1})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        for number in range(200):
            client.insert(rows(np.array([number])), wait=False)
    with ReplayClient(server.address, config=config) as watcher:
        until("all rows", lambda: True if watcher.status()[0].inserts == 200 else None)


def test_a_closed_client_says_so_and_may_be_closed_again() -> None:
    client = ReplayClient("tcp://127.0.0.1:9", config=sections(obs_dim=4, act_dim=2))
    client.close()
    client.close()
    for call in (lambda: client.insert(rows(np.arange(1))), lambda: client.sample(1), client.status):
        with pytest.raises(Closed, match="this client is closed"):
            call()


def test_a_call_that_waits_ends_when_the_client_is_closed() -> None:
    import threading

    client = ReplayClient("tcp://127.0.0.1:9", config=sections(obs_dim=4, act_dim=2))
    threading.Timer(0.3, client.close, kwargs={"flush": False}).start()
    began = time.monotonic()
    with pytest.raises(Closed):
        client.sample(1, timeout=60)
    assert time.monotonic() - began < 10


def test_an_error_in_the_block_is_not_hidden_by_a_wait() -> None:
    began = time.monotonic()
    with pytest.raises(KeyError):
        with ReplayClient("tcp://127.0.0.1:9", config=sections(obs_dim=4, act_dim=2)) as client:
            with pytest.raises(TimeoutError):
                client.insert(rows(np.arange(1)), timeout=0.1)
            raise KeyError("of the user")
    assert time.monotonic() - began < 10


def test_a_client_does_not_outlive_a_fork(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    script = """
import os, sys
import numpy as np
from sapex_replay import ReplayClient, Closed
from servers import rows
client = ReplayClient(sys.argv[1], config=sys.argv[2])
client.insert(rows(np.arange(1)))
child = os.fork()
if child == 0:
    try:
        client.insert(rows(np.arange(1)))
    except Closed as error:
        os._exit(7 if "make one in each process" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
client.insert(rows(np.arange(1)))
# It forgets to close the client.
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, server.address, str(config)],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
