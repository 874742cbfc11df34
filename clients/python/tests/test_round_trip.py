"""Values, types and keys through a real server, and the distribution of what comes back."""

from typing import Any, Dict

import numpy as np
import pytest
from numpy.typing import NDArray
from sapex_replay import ReplayClient, ShardStatus
from servers import Servers, rows, until

# Of the counts over 63 degrees of freedom, chi-squared is below this with probability 1 - 1e-6.
CHI_SQUARED_63 = 135.0


def random_fields(client: ReplayClient, count: int, seed: int) -> Dict[str, NDArray[Any]]:
    """Returns random values for every field; the first number of each field tells the rows apart."""
    rng = np.random.default_rng(seed)
    made: Dict[str, NDArray[Any]] = {}
    for field in client.layout.fields:
        shape = (count, *field.shape)
        if field.dtype == "F32":
            made[field.name] = rng.uniform(-6.4e7, 6.4e7, shape).astype(np.float32)
        else:
            kind = np.uint8 if field.dtype == "U8" else np.int64
            made[field.name] = rng.integers(0, 256, shape).astype(kind)
    made["reward"].reshape(count, -1)[:, 0] = np.arange(count)
    return made


NETWORKS: Dict[str, Dict[str, Any]] = {
    "mlp": {},
    "discrete": {"actions": "discrete", "action_low": [], "action_high": []},
    "image": {"obs_dim": 192, "obs_image": [3, 8, 8], "network": "cnn"},
    "lstm": {"network": "lstm", "hidden": [6], "lstm_layers": 2},
    "lstm, sequences": {"network": "lstm", "hidden": [6], "sequence_len": 5, "burn_in": 1},
    "cfc": {"network": "cfc", "hidden": [7, 8]},
    "liquid": {"network": "liquid", "neurons": 13},
    "ncp": {"network": "ncp", "neurons": 13},
    "wired-cfc": {"network": "wired-cfc", "neurons": 9},
    "wired-cfc, free sigma": {"network": "wired-cfc", "neurons": 9, "sigma": "free"},
    "costs": {"cost_horizon": 3},
    "texts": {"env_params": ['say="hi"', "and=it's"], "wrappers": ["reward-scale"], "reward_scale": 1e-7},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_field_comes_back_as_it_was_inserted(servers: Servers, name: str) -> None:
    # Only the Lyapunov actor-critic has costs.
    algorithm = {"learner.algorithm": "lac"} if name == "costs" else {}
    config = servers.config({**{f"cluster.{key}": value for key, value in NETWORKS[name].items()}, **algorithm})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        sent = random_fields(client, 40, seed=1)
        client.insert(sent)
        batch = client.sample(64)
        index = batch["reward"].reshape(64, -1)[:, 0].astype(int)
        assert set(batch.fields) == set(sent)
        for field in client.layout.fields:
            got = batch[field.name]
            assert got.dtype == sent[field.name].dtype and got.shape == (64, *field.shape)
            np.testing.assert_array_equal(got, sent[field.name][index], err_msg=field.name)
            assert got.flags.writeable and got.flags.owndata
        assert len(batch) == len(batch.keys) == 64
        assert len(set(batch.actors.tolist())) == 1


def test_numbers_of_other_types_are_converted_and_the_version_may_be_left_out(servers: Servers) -> None:
    config = servers.config({})
    server = servers.start(config)
    with ReplayClient(server.address, config=config, actor_id=7) as client:
        client.insert(obs=[[1, 2, 3, 4]], action=np.ones((1, 2), bool), reward=[0.1], discount=[1], next_obs=np.zeros((1, 4)))
        batch = client.sample(1)
        assert batch["obs"].tolist() == [[1.0, 2.0, 3.0, 4.0]]
        assert batch["reward"].tolist() == [np.float32(0.1)]
        assert batch["policy_version"].tolist() == [0]
        assert batch.actors.tolist() == [7]


def test_weights_follow_from_the_probabilities_and_these_from_the_priorities(servers: Servers) -> None:
    config = servers.config({"replay.shards": 2, "replay.priority_exponent": 0.5, "replay.priority_epsilon": 0.01})
    server = servers.start(config)
    with ReplayClient(server.address, config=config, seed=3) as client:
        td = np.arange(1, 65) / 8
        client.insert(**rows(np.arange(64)), td_abs=td)
        priorities = np.sqrt(td + 0.01)
        client.sample(1)  # The masses that a draw uses are those of the replies before it.
        batch = client.sample(64, beta=0.7)
        drawn = batch["reward"].astype(int)
        np.testing.assert_allclose(batch.probabilities, (priorities / priorities.sum())[drawn], rtol=1e-6)
        raw = batch.probabilities**-0.7
        np.testing.assert_array_equal(batch.weights, (raw / raw.max()).astype(np.float32))
        assert batch.weights.max() == 1.0 and batch.weights.dtype == np.float32

        counts = np.zeros(64)
        for _ in range(100):
            np.add.at(counts, client.sample(64)["reward"].astype(int), 1)
        expected = 6400 * priorities / priorities.sum()
        # Draws within a shard are stratified, so that the statistic is smaller than that of independent draws.
        assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARED_63
        assert {shard.shard: shard.items for shard in client.status()} == {0: 32, 1: 32}


def test_draws_over_shards_of_very_different_mass_are_in_proportion_to_priority(servers: Servers) -> None:
    config = servers.config({"replay.shards": 2, "replay.priority_exponent": 1.0})
    server = servers.start(config)
    with ReplayClient(server.address, config=config, seed=5) as client:
        client.insert(**rows(np.arange(64)), td_abs=np.ones(64))
        everything = client.sample(64)
        # All items of the first shard become a hundred times heavier.
        seen = {int(key["key"]): key for key in everything.keys if key["shard"] == 0}
        for _ in range(20):
            batch = client.sample(64)
            seen.update({int(key["key"]): key for key in batch.keys if key["shard"] == 0})
        keys = np.array(list(seen.values()))
        assert len(keys) == 32
        assert client.update_priorities(keys, np.full(32, 100.0)) == 0
        client.sample(1)
        shards = np.concatenate([client.sample(64).keys["shard"] for _ in range(50)])
        share = (shards == 0).mean()
        # The standard deviation of the share is 0.0018.
        assert abs(share - 100 / 101) < 0.009, share


def test_new_priorities_change_what_is_sampled(servers: Servers) -> None:
    config = servers.config({"replay.priority_exponent": 1.0})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        client.insert(**rows(np.arange(64)), td_abs=np.ones(64))
        batch = client.sample(64)
        favourite = batch.keys[:1]
        client.update_priorities(batch.keys, np.where(batch.keys == favourite, 1e6, 0.0))
        after = client.sample(64)
        assert (after.keys == favourite).mean() > 0.95
        mass = 1e6 + 1e-6 * 64
        np.testing.assert_allclose(after.probabilities[after.keys == favourite], 1e6 / mass, rtol=1e-4)
        assert client.update_priorities(batch.keys[:0], []) == 0


def test_a_uniform_replay_has_equal_probabilities_and_weights(servers: Servers) -> None:
    config = servers.config({"replay.selector": "uniform", "replay.shards": 3})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        client.insert(**rows(np.arange(48)))
        batch = client.sample(64)
        np.testing.assert_allclose(batch.probabilities, 1 / 48)
        np.testing.assert_array_equal(batch.weights, 1)


def test_two_servers_with_two_shards_each_are_one_replay(servers: Servers) -> None:
    settings = {"replay.shards": 2, "endpoints.replay": ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]}
    config = servers.config(settings)
    both = [servers.start(config, index=index, entries=2) for index in (0, 1)]
    with ReplayClient([server.address for server in both], config=config) as client:
        client.insert(**rows(np.arange(512)))

        def whole() -> "list[ShardStatus] | None":
            found = client.status()
            return found if sum(shard.inserts for shard in found) == 512 else None

        found = until("all rows in the status", whole)
        assert [(shard.server, shard.shard) for shard in found] == [(s.address, n) for s in both for n in (0, 1)]
        assert all(shard.is_up and shard.items >= 32 for shard in found)
        assert sum(shard.mass for shard in found) == pytest.approx(512)
        batch = client.sample(64)
        assert set(batch.keys["shard"]) == {0, 1, 2, 3}
        np.testing.assert_allclose(batch.probabilities, 1 / 512)
        assert client.update_priorities(batch.keys, np.ones(64)) == 0


def test_many_threads_share_a_client(servers: Servers) -> None:
    import threading

    config = servers.config({"replay.shards": 2})
    server = servers.start(config)
    with ReplayClient(server.address, config=config) as client:
        errors = []

        def work(number: int) -> None:
            try:
                for turn in range(30):
                    client.insert(**rows(np.full(5, number)))
                    batch = client.sample(8)
                    client.update_priorities(batch.keys, np.ones(8))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        done = until("all rows", lambda: True if sum(s.inserts for s in client.status()) == 900 else None)
        assert done
