"""What a sample is: rows with their keys, probabilities and importance weights (docs/algorithms/replay.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .layout import RowLayout

# A key names one item of the run: the shard, counted over all servers, and the server's own key.
KEY = np.dtype([("shard", "<u4"), ("key", "<u8")])
# The actor of an item whose actor the server does not know, because an earlier start saved the item.
UNKNOWN_ACTOR = 2**32 - 1


@dataclass(frozen=True)
class Batch:
    """Rows of a replay: one array per field, `batch["obs"]`, each with the items along its first axis.

    Attributes:
        fields: The arrays by the names of their fields.
        keys: The items, for `update_priorities`; a structured array that can be indexed, joined and stored.
        probabilities: P_i, the probability with which each item was drawn out of all shards, as f64.
        weights: Importance weights (N P_i)^-beta over the largest of the batch, as f32.
        actors: The id of the actor that inserted each item, or UNKNOWN_ACTOR.
    """

    fields: Dict[str, NDArray[Any]]
    keys: NDArray[Any]
    probabilities: NDArray[np.float64]
    weights: NDArray[np.float32]
    actors: NDArray[np.uint32]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.fields[name]

    def __len__(self) -> int:
        return len(self.keys)


class Part(NamedTuple):
    """What one shard contributes. `chance` is q_s, with which the shard itself was chosen."""

    shard: int
    chance: float
    keys: bytes
    probabilities: bytes
    rows: bytes
    actors: bytes


def join(parts: List[Part], layout: RowLayout, beta: float) -> Batch:
    """Makes a batch of the parts of all shards, in the order of the shards."""
    parts = sorted(parts)
    own_keys = [np.frombuffer(part.keys, "<u8") for part in parts]
    keys = np.zeros(sum(map(len, own_keys)), KEY)
    keys["key"] = np.concatenate(own_keys)
    keys["shard"] = np.repeat([part.shard for part in parts], [len(own) for own in own_keys])
    probabilities = np.concatenate([part.chance * np.frombuffer(part.probabilities, "<f8") for part in parts])
    return Batch(
        fields=layout.unpack(b"".join(part.rows for part in parts)),
        keys=keys,
        probabilities=probabilities,
        weights=importance_weights(probabilities, beta),
        actors=np.frombuffer(b"".join(part.actors for part in parts), "<u4").astype(np.uint32),
    )


def importance_weights(probabilities: NDArray[np.float64], beta: float) -> NDArray[np.float32]:
    """Returns (N P_i)^-beta divided by the largest of them. N, the number of items, cancels."""
    raw = np.power(probabilities, -beta)
    weights: NDArray[np.float32] = (raw / raw.max(initial=np.finfo(np.float64).tiny)).astype(np.float32)
    return weights
