"""The rate limiter: inserts wait for samples and samples for inserts, and the errors say so."""

import threading
import time

import numpy as np
import pytest
from sapex_replay import InsertTimedOut, ReplayClient, TimedOut
from servers import Servers, rows

# Inserts wait from 80 rows on until 16 + 64 rows more have been sampled.
LIMITED = {"replay.min_size": 16, "replay.samples_per_insert": 1.0, "replay.error_buffer": 64.0}


def test_inserts_wait_until_others_have_sampled(servers: Servers) -> None:
    config = servers.config(LIMITED)
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as actor, ReplayClient(server.address, config=config) as learner:
        began = time.monotonic()
        done = threading.Event()

        def insert() -> None:
            actor.insert(rows(np.arange(160)))
            done.set()

        thread = threading.Thread(target=insert)
        thread.start()
        assert not done.wait(1.0)
        held = actor.status()[0].inserts
        assert held == 80
        for _ in range(2):
            learner.sample(64)
        assert done.wait(30)
        thread.join()
        assert time.monotonic() - began < 30


def test_samples_wait_for_rows_and_say_how_many(servers: Servers) -> None:
    config = servers.config({**LIMITED, "replay.min_size": 40})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        client.insert(rows(np.arange(30)))
        with pytest.raises(TimedOut, match=r"the rate limiter of shard 0 of .* waits for 10 more inserted rows"):
            client.sample(8, timeout=3.0)
        client.insert(rows(np.arange(10)))
        assert len(client.sample(8)) == 8


def test_what_a_sample_has_drawn_when_its_time_is_over_is_not_drawn_again(servers: Servers) -> None:
    config = servers.config({**LIMITED, "replay.min_size": 32, "replay.shards": 2, "replay.error_buffer": 0.0})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        # One batch for one shard: it can be sampled, and the other shard has too few rows.
        client.insert(rows(np.arange(16)))
        for _ in range(3):
            with pytest.raises(TimedOut, match="waits for 16 more inserted rows"):
                client.sample(8, timeout=2.0)
        accounted = sorted(shard["limiter"]["samples"] for shard in server.status().values() if "limiter" in shard)
        assert accounted == [0.0, 4.0]
        client.insert(rows(np.arange(16)))
        assert len(client.sample(8)) == 8


def test_a_client_that_does_not_wait_is_held_back_by_the_window(servers: Servers) -> None:
    config = servers.config({**LIMITED, "actor.window": 2})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        with pytest.raises(InsertTimedOut) as caught:
            client.insert(rows(np.arange(400)), wait=False, timeout=3.0)
        # 80 rows are in the table. While batches wait at the server, a single one may be on its way.
        assert 80 < caught.value.taken <= 80 + 2 * 16
        with pytest.raises(InsertTimedOut, match="flush of .* rows") as flushed:
            client.flush(timeout=0.1)
        assert flushed.value.rows == caught.value.taken - 80
        client.sample(64)
        client.flush()
        client.insert(rows(np.arange(16)))
