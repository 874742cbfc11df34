"""The settings of a run, as far as a client needs them: what it greets with, and how a row is laid out.

`replay-server --config FILE --print-config` prints the settings of a run with every key. This module reads that output.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from .digest import digest64
from .errors import InvalidSettings
from .layout import FieldSpec, RowLayout
from .tls import Tls
from .wire import INSERT_ROWS_MAX, SAMPLE_ITEMS_MAX, Hello, Role

Config = Union[str, Path, Mapping[str, Any]]

_HOW = "as `replay-server --config FILE --print-config` prints it"
# Type of each key of [cluster]. A leading `list of` marks a list of that type.
_TYPES = {
    "text": "env actions network activation head_activation cfc_mode cfc_activation sigma",
    "list of text": "env_params wrappers",
    "integer": (
        "obs_dim act_dim time_limit action_repeat frame_stack obs_delay n_step lstm_layers neurons wiring_seed"
        " sequence_len burn_in cost_horizon"
    ),
    "list of integer": "obs_image hidden head_hidden",
    "64-bit float": "gamma reward_scale",
    "list of 64-bit float": "reward_clip",
    "32-bit float": "action_noise log_std_min log_std_max mean_bound obs_clip",
    "list of 32-bit float": "action_low action_high action_rescale",
    "true or false": "action_noise_eval truncation_bootstrap layer_norm normalise_obs",
}
KEYS: Dict[str, str] = {key: kind for kind, keys in _TYPES.items() for key in keys.split()}


@dataclass(frozen=True)
class Settings:
    """What a client knows of its run."""

    cluster_lines: Tuple[Tuple[str, str], ...]
    cluster_hash: int
    layout: RowLayout
    endpoints: Tuple[str, ...]
    shards: int
    insert_rows: int
    batch_size: int
    importance_exponent: float
    actor_id: Optional[int]
    tls: Optional[Tls]

    @staticmethod
    def load(config: Config) -> Settings:
        """Reads settings from a TOML or JSON file, or from a mapping of sections.

        Raises:
            InvalidSettings: A key is missing or has a wrong value. It is named.
        """
        sections = config if isinstance(config, Mapping) else _read(Path(config))
        cluster = _section(sections, "cluster")
        lines = cluster_lines(cluster)
        actor_id = _section(sections, "actor").get("id", "auto")
        return Settings(
            cluster_lines=lines,
            cluster_hash=digest64("".join(f"{key} = {value}\n" for key, value in lines).encode()),
            layout=row_layout(cluster),
            endpoints=_endpoints(_value(sections, "endpoints", "replay")),
            shards=_count(sections, "replay", "shards", 256),
            insert_rows=_count(sections, "actor", "insert_rows", INSERT_ROWS_MAX),
            batch_size=_count(sections, "learner", "batch_size", SAMPLE_ITEMS_MAX),
            importance_exponent=_share(sections, "learner", "importance_sampling_exponent"),
            actor_id=None if actor_id == "auto" else check_actor_id("actor.id", actor_id),
            tls=Tls.of_section(sections.get("tls", {})),
        )

    def hello(self, role: Role) -> Hello:
        """Returns the greeting of a client with these settings."""
        return Hello(role, self.cluster_hash, self.cluster_lines, self.layout.hash, self.layout.row_bytes)


def check_actor_id(what: str, value: object) -> int:
    """Returns the id of an actor, which must be below the range from which ids are drawn."""
    if not _is_integer(value) or not 0 <= value < 1 << 20:  # type: ignore[operator]
        raise InvalidSettings(what, repr(value), 'a whole number from 0 to 1048575, or "auto"')
    assert isinstance(value, int)
    return value


def cluster_lines(cluster: Mapping[str, Any]) -> Tuple[Tuple[str, str], ...]:
    """Returns the list of [cluster] settings of a greeting, sorted by key.

    Raises:
        InvalidSettings: A key is missing, unknown or has a wrong value.
    """
    for key in cluster:
        if key not in KEYS:
            raise InvalidSettings(f"cluster.{key}", "given", f"only settings of this version: {', '.join(sorted(KEYS))}")
    for key in KEYS:
        if key not in cluster:
            raise InvalidSettings(f"cluster.{key}", "missing", f"a value for every key of [cluster], {_HOW}")
    return tuple((f"cluster.{key}", _toml(f"cluster.{key}", cluster[key], KEYS[key])) for key in sorted(KEYS))


def row_layout(cluster: Mapping[str, Any]) -> RowLayout:
    """Returns the layout of a row under these [cluster] settings, which `cluster_lines` has checked."""
    obs_dim, act_dim, steps = cluster["obs_dim"], cluster["act_dim"], max(cluster["sequence_len"], 1)
    for key in ("obs_dim", "act_dim"):
        if cluster[key] < 1:
            raise InvalidSettings(f"cluster.{key}", cluster[key], f"the shape that the server derives, {_HOW}")
    width = 1 if cluster["actions"] == "discrete" else act_dim
    pixel = "U8" if cluster["obs_image"] else "F32"
    state = state_size(cluster)
    is_sequence = steps > 1
    lead: Tuple[int, ...] = (steps,) if is_sequence else ()
    states: List[FieldSpec] = [("state", "F32", (state,))] if state else []
    costs: List[FieldSpec] = [("horizon_cost", "F32", lead)] if cluster["cost_horizon"] > 0 else []
    version: FieldSpec = ("policy_version", "I64", ())
    of_steps: List[FieldSpec] = [
        ("action", "F32", (*lead, width)),
        ("reward", "F32", lead),
        ("discount", "F32", lead),
    ]
    if is_sequence:
        obs: FieldSpec = ("obs", pixel, (steps + 1, obs_dim))
        return RowLayout([version, *states, obs, *of_steps, ("valid", "F32", lead), *costs])
    obs, next_obs = ("obs", pixel, (obs_dim,)), ("next_obs", pixel, (obs_dim,))
    next_states: List[FieldSpec] = [("next_state", "F32", (state,))] if state else []
    return RowLayout([version, obs, *of_steps, next_obs, *states, *next_states, *costs])


def state_size(cluster: Mapping[str, Any]) -> int:
    """Returns the number of floats of the policy's recurrent state; 0 for a policy without one."""
    network, hidden, neurons = cluster["network"], cluster["hidden"], cluster["neurons"]
    if network in ("lstm", "cfc") and not hidden:
        raise InvalidSettings("cluster.hidden", "[]", f"at least one width for the network {network}")
    if network == "lstm":
        return int(2 * cluster["lstm_layers"] * hidden[0])
    if network == "cfc":
        return int(hidden[0])
    if network == "liquid":
        return int(max(neurons * 2 // 5, 1))
    if network == "wired-cfc":
        has_log_std = cluster["actions"] == "continuous" and cluster["sigma"] == "conditioned"
        return int(max(neurons, cluster["act_dim"] * (2 if has_log_std else 1)))
    return 0


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            found: Any = json.loads(text)
        else:
            found = _toml_reader()(text)
    except (OSError, ValueError) as error:
        raise InvalidSettings(str(path), f"not readable ({error})", "a TOML or JSON file of settings") from error
    if not isinstance(found, dict):
        raise InvalidSettings(str(path), f"a {type(found).__name__}", "an object of sections")
    return found


def _toml_reader() -> Any:
    # tomli is what tomllib was before Python 3.11.
    for name in ("tomllib", "tomli"):
        try:
            return import_module(name).loads
        except ImportError:
            continue
    expected = "Python 3.11 or newer, or the package tomli; otherwise a JSON file or a mapping of the same settings"
    raise InvalidSettings("this Python", "without a reader of TOML", expected)


def _section(sections: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = sections.get(name)
    if not isinstance(section, Mapping):
        raise InvalidSettings(f"[{name}]", "missing", f"a section, {_HOW}")
    return section


def _value(sections: Mapping[str, Any], section: str, key: str) -> Any:
    table = _section(sections, section)
    if key not in table:
        raise InvalidSettings(f"{section}.{key}", "missing", f"a value, {_HOW}")
    return table[key]


def _count(sections: Mapping[str, Any], section: str, key: str, most: int) -> int:
    value = _value(sections, section, key)
    if not _is_integer(value) or not 1 <= value <= most:
        raise InvalidSettings(f"{section}.{key}", repr(value), f"a whole number from 1 to {most}")
    return int(value)


def _share(sections: Mapping[str, Any], section: str, key: str) -> float:
    value = _value(sections, section, key)
    if not _is_number(value) or not 0 <= value <= 1:
        raise InvalidSettings(f"{section}.{key}", repr(value), "a number from 0 to 1")
    return float(value)


def _endpoints(value: Any) -> Tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidSettings("endpoints.replay", repr(value), "a list of addresses")
    return tuple(texts)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or isinstance(value, float)


def _toml(key: str, value: Any, kind: str) -> str:
    """Writes a value in the one way in which greetings write it."""
    if kind.startswith("list of "):
        if not isinstance(value, (list, tuple)):
            raise InvalidSettings(key, repr(value), f"a {kind}")
        return f"[{', '.join(_toml(key, item, kind[len('list of ') :]) for item in value)}]"
    if kind == "true or false" and isinstance(value, bool):
        return "true" if value else "false"
    if kind == "integer" and _is_integer(value):
        return str(value)
    if kind == "text" and isinstance(value, str):
        return _toml_text(key, value)
    if kind.endswith("float") and _is_number(value):
        return _toml_float(key, float(value), kind)
    raise InvalidSettings(key, repr(value), f"a {kind}" if kind != "integer" else "an integer")


def _toml_text(key: str, value: str) -> str:
    quote = "'" if '"' in value or "\\" in value else '"'
    if quote in value or any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise InvalidSettings(key, repr(value), "a text without control characters and without both kinds of quotes")
    return f"{quote}{value}{quote}"


def _toml_float(key: str, value: float, kind: str) -> str:
    if kind == "32-bit float":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            raise InvalidSettings(key, value, "a number in the range of a 32-bit float") from None
    if not math.isfinite(value):
        return str(value)
    digits = format(Decimal(repr(value)), "f")
    return digits if "." in digits else f"{digits}.0"
