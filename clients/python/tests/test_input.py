"""Wrong input is refused before anything is sent, by name. No server listens in these tests."""

from typing import Any, Dict, Iterator

import numpy as np
import pytest
from sapex_replay import KEY, InsertTimedOut, InvalidInput, ReplayClient, TimedOut
from servers import rows
from test_settings import sections


@pytest.fixture
def client() -> Iterator[ReplayClient]:
    client = ReplayClient("tcp://127.0.0.1:9", config=sections(obs_dim=4, act_dim=2), timeout=0.2)
    yield client
    client.close(flush=False)


def changed(**changes: Any) -> Dict[str, Any]:
    return {**rows(np.arange(3)), **changes}


@pytest.mark.parametrize(
    "fields, message",
    [
        (changed(obs=np.zeros((3, 5))), r"shape of obs is \[3, 5\], expected \[rows, 4\] with 3 rows"),
        (changed(reward=np.zeros((3, 1))), r"shape of reward is \[3, 1\], expected \[rows\] with 3 rows"),
        (changed(action=np.zeros((2, 2))), r"shape of action is \[2, 2\], expected \[rows, 2\] with 3 rows"),
        (changed(obs=np.zeros((3, 4), complex)), "type of obs is complex128, expected an array of real numbers"),
        (changed(reward=["a", "b", "c"]), "type of reward is <U1"),
        (changed(reward=[[1.0], [2.0, 3.0], 0.0]), "field reward is no array|type of reward is object"),
        (changed(policy_version=np.zeros(3)), "type of policy_version is float64, expected an array of integers"),
        (changed(policy_version=np.full(3, 2**63, np.uint64)), "largest policy_version is 9223372036854775808"),
        (changed(reward=[0.0, np.nan, 0.0]), r"reward\[1\] is nan, expected a number from -6.4e\+07 to 6.4e\+07"),
        (changed(next_obs=np.full((3, 4), np.inf)), r"next_obs\[0, 0\] is inf"),
        (changed(obs=np.full((3, 4), 6.5e7)), r"obs\[0, 0\] is 65000000"),
        (changed(speed=np.zeros(3)), "field is 'speed', expected one of policy_version, obs, action"),
        ({"obs": np.zeros((3, 4))}, "field action is missing"),
        (rows(np.zeros(0)), "number of rows is 0, expected at least 1"),
        (changed(obs=np.float32(0.0)), r"shape of obs is \[\]"),
    ],
)
def test_a_wrong_field_is_named(client: ReplayClient, fields: Dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        client.insert(**fields)


def test_images_are_bytes_and_nothing_else() -> None:
    config = sections(obs_dim=4, obs_image=[1, 2, 2], act_dim=2)
    with ReplayClient("tcp://127.0.0.1:9", config=config) as client:
        for wrong in (np.float32, np.int8, np.uint16, bool):
            with pytest.raises(InvalidInput, match="type of obs is .*, expected an array of uint8"):
                client.insert(**changed(obs=np.zeros((3, 4), wrong), next_obs=np.zeros((3, 4), np.uint8)))


@pytest.mark.parametrize("td_abs", [[1.0, 2.0], [[1.0], [2.0], [3.0]], ["a", "b", "c"]])
def test_priorities_of_another_shape_or_type_are_refused(client: ReplayClient, td_abs: Any) -> None:
    with pytest.raises(InvalidInput, match=r"td_abs is .*, expected real numbers of shape \[3\]"):
        client.insert(td_abs=td_abs, **changed())
    with pytest.raises(InvalidInput, match=r"td_abs is .*, expected real numbers of shape \[3\]"):
        client.update_priorities(np.zeros(3, KEY), td_abs)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, 1.1e8])
def test_a_priority_out_of_range_is_refused_with_its_index(client: ReplayClient, value: float) -> None:
    for call in (lambda td: client.insert(td_abs=td, **changed()), lambda td: client.update_priorities(np.zeros(3, KEY), td)):
        with pytest.raises(InvalidInput, match=r"td_abs\[2\] is .*, expected a number from 0 to 1e\+08"):
            call(np.array([0.0, 1.0, value]))


def test_keys_that_no_sample_had_are_refused(client: ReplayClient) -> None:
    with pytest.raises(InvalidInput, match="keys is int64 of shape"):
        client.update_priorities(np.zeros(3, np.int64), np.zeros(3))
    foreign = np.zeros(1, KEY)
    foreign["shard"] = 1
    with pytest.raises(InvalidInput, match="largest shard in keys is 1, expected at most 0"):
        client.update_priorities(foreign, np.zeros(1))


def test_counts_and_times_out_of_range_are_refused(client: ReplayClient) -> None:
    for count in (0, 257, -1, 1.5):
        with pytest.raises(InvalidInput, match=f"count is {count}, expected .* 1 to learner.batch_size = 256"):
            client.sample(count)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="beta is 1.5, expected a number from 0 to 1"):
        client.sample(1, beta=1.5)
    with pytest.raises(InvalidInput, match="timeout is -1"):
        client.sample(1, timeout=-1)


def test_calls_give_up_in_time_and_say_that_no_server_is_there(client: ReplayClient) -> None:
    with pytest.raises(InsertTimedOut, match="no server listens there") as caught:
        client.insert(**changed())
    assert (caught.value.rows, caught.value.taken, caught.value.acknowledged) == (3, 0, 0)
    with pytest.raises(TimedOut, match="a sample of 8 items took more than 0.2 s; tcp://127.0.0.1:9 is not ready"):
        client.sample(8)
    with pytest.raises(TimedOut, match="an update of priorities"):
        client.update_priorities(np.zeros(1, KEY), np.zeros(1))
    with pytest.raises(TimeoutError, match="the status of the shards"):
        client.status()
