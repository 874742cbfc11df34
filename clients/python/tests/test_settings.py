"""Settings: the golden digests of the repository, and errors that name the key."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from sapex_replay import InvalidSettings, ReplayClient
from sapex_replay.settings import KEYS, Settings, cluster_lines, row_layout
from servers import ROOT

GOLDEN = ROOT / "common/testdata/wire/cluster.txt"


def golden_lines() -> Dict[str, str]:
    lines = (line.split(" = ", 1) for line in GOLDEN.read_text().splitlines())
    return {key: value for key, value in lines}


def value_of(text: str) -> Any:
    """Reads a golden value. Those of the file are JSON, apart from a text in single quotes."""
    return json.loads(text.replace("""'say="hi"'""", '"say=\\"hi\\""'))


def cluster(**changes: Any) -> Dict[str, Any]:
    lines = golden_lines()
    settings = {key: value_of(lines[f"cluster.{key}"]) for key in KEYS}
    return {**settings, **changes}


def sections(**changes: Any) -> Dict[str, Any]:
    return {
        "cluster": cluster(**changes),
        "endpoints": {"replay": ["tcp://127.0.0.1:5601"]},
        "replay": {"shards": 1},
        "actor": {"id": "auto", "insert_rows": 8},
        "learner": {"batch_size": 256, "importance_sampling_exponent": 0.4},
    }


def test_the_lines_and_digests_of_the_golden_configuration_are_the_same() -> None:
    lines = golden_lines()
    settings = Settings.load(sections())
    assert dict(settings.cluster_lines) == {key: value for key, value in lines.items() if key.startswith("cluster.")}
    assert [key for key, _ in settings.cluster_lines] == sorted(f"cluster.{key}" for key in KEYS)
    assert hex(settings.cluster_hash) == lines["cluster_hash"]
    assert hex(settings.layout.hash) == lines["layout_hash"]
    assert settings.layout.row_bytes == int(lines["row_bytes"])


@pytest.mark.parametrize(
    "key, value, written",
    [
        ("gamma", 1, "1.0"),
        ("gamma", 1e-7, "0.0000001"),
        ("gamma", 1e16, "10000000000000000.0"),
        ("gamma", 0.1 + 0.2, "0.30000000000000004"),
        ("reward_clip", [-math.inf, math.inf], "[-inf, inf]"),
        ("obs_clip", 0.1, "0.10000000149011612"),
        ("hidden", [], "[]"),
        ("env", "it's", '"it\'s"'),
        ("env", "a\\b", "'a\\b'"),
    ],
)
def test_values_are_written_in_one_way(key: str, value: Any, written: str) -> None:
    assert dict(cluster_lines(cluster(**{key: value})))[f"cluster.{key}"] == written


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("env", "both ' and \"", "both kinds of quotes"),
        ("env", "a\nb", "without control characters"),
        ("env", 3, "expected a text"),
        ("n_step", True, "expected an integer"),
        ("n_step", 1.0, "expected an integer"),
        ("layer_norm", 1, "expected a true or false"),
        ("gamma", "0.9", "expected a 64-bit float"),
        ("hidden", 64, "expected a list of integer"),
        ("obs_clip", 1e39, "32-bit float"),
        ("obs_dim", 0, "cluster.obs_dim is 0, expected the shape that the server derives"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(key: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidSettings, match=f"cluster.{key} is") as caught:
        Settings.load(sections(**{key: value}))
    assert expected in str(caught.value)


def test_missing_and_unknown_keys_are_named() -> None:
    short = sections()
    del short["cluster"]["n_step"]
    with pytest.raises(InvalidSettings, match="cluster.n_step is missing.*--print-config"):
        Settings.load(short)
    with pytest.raises(InvalidSettings, match="cluster.nstep is given"):
        Settings.load(sections(nstep=1))
    for section, key in [("replay", "shards"), ("actor", "insert_rows"), ("learner", "batch_size")]:
        short = sections()
        del short[section][key]
        with pytest.raises(InvalidSettings, match=f"{section}.{key} is missing"):
            Settings.load(short)
    with pytest.raises(InvalidSettings, match=r"\[endpoints\] is missing"):
        Settings.load({"cluster": cluster(), "actor": {}})
    with pytest.raises(InvalidSettings, match="actor.id is 1048576"):
        Settings.load({**sections(), "actor": {"id": 1 << 20, "insert_rows": 8}})
    with pytest.raises(InvalidSettings, match="tls.cert is empty"):
        Settings.load({**sections(), "tls": {"ca": "ca.crt"}})


def test_addresses_are_checked_before_anything_is_sent() -> None:
    for address in ["127.0.0.1:5601", "tcp://127.0.0.1", "tcp://:5601", "tcp://host:0", "tcp://host:x"]:
        with pytest.raises(InvalidSettings, match="address of a replay server is"):
            ReplayClient(address, config=sections())


def test_a_file_of_json_is_read_like_the_mapping(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(sections()))
    assert Settings.load(path).cluster_hash == Settings.load(sections()).cluster_hash
    path.write_text("{")
    with pytest.raises(InvalidSettings, match=r"config\.json is not readable"):
        Settings.load(str(path))


def test_a_python_without_a_reader_of_toml_names_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidSettings, match="without a reader of TOML, expected .* a JSON file or a mapping"):
        Settings.load(path)


def test_rows_of_bytes_and_sequences_are_packed_and_aligned() -> None:
    images = row_layout(cluster(obs_dim=9, obs_image=[1, 3, 3], actions="discrete", act_dim=4))
    assert [(f.name, f.dtype, f.shape, f.offset) for f in images.fields] == [
        ("policy_version", "I64", (), 0),
        ("obs", "U8", (9,), 8),
        ("action", "F32", (1,), 20),
        ("reward", "F32", (), 24),
        ("discount", "F32", (), 28),
        ("next_obs", "U8", (9,), 32),
    ]
    assert images.row_bytes == 48
    sequences = row_layout(cluster(network="lstm", hidden=[5], sequence_len=4, cost_horizon=2))
    assert [(f.name, f.shape) for f in sequences.fields] == [
        ("policy_version", ()),
        ("state", (10,)),
        ("obs", (5, 3)),
        ("action", (4, 1)),
        ("reward", (4,)),
        ("discount", (4,)),
        ("valid", (4,)),
        ("horizon_cost", (4,)),
    ]
