"""Every row enters the table once: over connections that are cut, and servers that are killed."""

import random
import threading
import time

import numpy as np
import pytest
from proxy import Proxy
from sapex_replay import InsertTimedOut, ReplayClient, TimedOut
from servers import Servers, rows, until


def inserts(client: ReplayClient) -> int:
    return sum(shard.inserts for shard in client.status())


def test_rows_are_not_doubled_where_acknowledgements_are_lost(servers: Servers) -> None:
    config = servers.config({"replay.shards": 2})
    server = servers.start(config)
    proxy = Proxy(server.address)
    with ReplayClient(server.address, config=config) as watcher, ReplayClient(proxy.address, config=config) as client:
        client.insert(rows(np.arange(8)))
        proxy.deaf = True
        # The server gets these rows and acknowledges them, and the client does not learn of it.
        with pytest.raises(InsertTimedOut) as caught:
            client.insert(rows(np.arange(8, 40)), timeout=0.5)
        assert (caught.value.rows, caught.value.taken, caught.value.acknowledged) == (32, 32, 0)
        until("the rows in the table", lambda: True if inserts(watcher) == 40 else None)
        proxy.deaf = False
        proxy.cut()
        client.flush()
        client.insert(rows(np.arange(40, 48)))
        until("the last rows", lambda: True if inserts(watcher) >= 48 else None)
        time.sleep(0.3)
        assert inserts(watcher) == 48
        seen = np.concatenate([watcher.sample(64)["reward"] for _ in range(30)])
        assert set(seen.astype(int)) == set(range(48))
    proxy.close()


def test_rows_arrive_once_while_connections_are_cut_all_the_time(servers: Servers) -> None:
    config = servers.config({"replay.shards": 2, "actor.insert_rows": 4})
    server = servers.start(config)
    proxy = Proxy(server.address)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, over = random.Random(seed), threading.Event()

    def saw() -> None:
        while not over.wait(rng.uniform(0.0, 0.15)):
            proxy.cut()

    cutter = threading.Thread(target=saw)
    cutter.start()
    try:
        with ReplayClient(proxy.address, config=config) as client:
            for number in range(150):
                client.insert(rows(np.full(rng.randrange(1, 30), number)), wait=rng.random() < 0.2)
                time.sleep(0.005)
            client.flush()
    finally:
        over.set()
        cutter.join()
    proxy.close()
    sent = rows_sent(client)
    with ReplayClient(server.address, config=config) as watcher:
        until(f"{sent} rows, seed {seed}", lambda: True if inserts(watcher) >= sent else None)
        time.sleep(0.3)
        assert inserts(watcher) == sent, seed


def rows_sent(client: ReplayClient) -> int:
    """Returns the number of rows that a client has numbered."""
    assert client._inserter is not None
    return sum(lane.rows for uploads in client._inserter.uploads for lane in uploads.lanes)


def test_a_killed_server_comes_back_and_client_goes_on(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        client.insert(rows(np.arange(32)))
        assert len(client.sample(64)) == 64
        server.kill()
        # These rows are taken into the window while no server is there, or wait for it.
        with pytest.raises(InsertTimedOut) as caught:
            client.insert(rows(np.arange(100, 116)), timeout=0.3)
        with pytest.raises(TimedOut, match="is not ready"):
            client.sample(8, timeout=0.3)
        server.start()
        if caught.value.taken == 0:
            client.insert(rows(np.arange(100, 116)))
        client.flush()
        # The table is new, and what was acknowledged by the killed server went with it.
        found = {int(reward) for _ in range(20) for reward in client.sample(64)["reward"]}
        assert found == set(range(100, 116))
        batch = client.sample(16)
        assert client.update_priorities(batch.keys, np.ones(16)) == 0


def test_batches_that_a_killed_server_has_not_acknowledged_are_sent_to_the_next(servers: Servers) -> None:
    # Nobody samples, so that the limiter holds back what exceeds its buffer.
    settings = {"replay.min_size": 16, "replay.samples_per_insert": 1.0, "replay.error_buffer": 64.0}
    config = servers.config(settings)
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        with pytest.raises(InsertTimedOut, match="its rate limiter waits for samples") as caught:
            client.insert(rows(np.arange(160)), timeout=3.0)
        error = caught.value
        assert error.acknowledged == 80 and error.taken > 80, vars(error)
        server.kill()
        server.start()
        client.flush()
        until("the rows", lambda: True if inserts(client) == error.taken - error.acknowledged else None)
        found = {int(reward) for reward in client.sample(64)["reward"]}
        assert found <= set(range(80, error.taken))


def test_one_of_two_servers_is_away_and_the_other_serves(servers: Servers) -> None:
    config = servers.config({"endpoints.replay": ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]})
    first, second = [servers.start(config, index=index, entries=2) for index in (0, 1)]
    with ReplayClient([first.address, second.address], config=config) as client:
        client.insert(rows(np.arange(320)))
        client.sample(1)  # The masses that a draw uses are those of the replies before it.
        assert set(client.sample(64).keys["shard"]) == {0, 1}
        keys = client.sample(64).keys
        second.kill()
        until("the loss to be seen", lambda: True if not client.status()[1].is_up else None)
        client.insert(rows(np.arange(320)))
        assert set(client.sample(64).keys["shard"]) == {0}
        assert client.update_priorities(keys, np.ones(64)) == (keys["shard"] == 1).sum()
        assert [shard.is_up for shard in client.status()] == [True, False]
        second.start()

        def both() -> "bool | None":
            client.insert(rows(np.arange(32)))
            try:
                return True if set(client.sample(64, timeout=0.5).keys["shard"]) == {0, 1} else None
            except TimedOut:
                return None  # The new server is empty until rows are inserted there.

        until("both servers", both)
