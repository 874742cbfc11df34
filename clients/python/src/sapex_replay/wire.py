"""Headers of the wire protocol as bytes: requests to a replay server, and its replies (docs/protocol.md).

Everything is little-endian. A header that is cut, has bytes too many, or announces more than it has is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple, TypeVar, Union

from . import refusals
from .errors import WireError

PROTOCOL = 4

HEADER_BYTES_MAX = 64 << 10
FRAME_BYTES_MAX = 64 << 20
INSERT_ROWS_MAX = 8_192
SAMPLE_ITEMS_MAX = 16_384
INSERT_WINDOW_MAX = 64

_T = TypeVar("_T")


@dataclass(frozen=True)
class Actor:
    """The role that inserts."""

    id: int
    incarnation: int
    oldest_unacknowledged: Tuple[int, ...]
    insert_rows: int

    def encode(self) -> bytes:
        oldest = struct.pack(f"<{len(self.oldest_unacknowledged)}Q", *self.oldest_unacknowledged)
        head = struct.pack("<IIQQ", 0, self.id, self.incarnation, len(self.oldest_unacknowledged))
        return head + oldest + struct.pack("<I", self.insert_rows)


@dataclass(frozen=True)
class Learner:
    """The role that samples and updates priorities."""

    incarnation: int
    batch_size: int
    shards: int
    shards_total: int

    def encode(self) -> bytes:
        return struct.pack("<IQIII", 1, self.incarnation, self.batch_size, self.shards, self.shards_total)


Role = Union[Actor, Learner]


@dataclass(frozen=True)
class Hello:
    """The greeting. Every other request needs one before it."""

    role: Role
    cluster_hash: int
    cluster: Sequence[Tuple[str, str]]
    layout_hash: int
    row_bytes: int
    protocol: int = PROTOCOL

    def encode(self) -> bytes:
        pairs = b"".join(_text(key) + _text(value) for key, value in self.cluster)
        head = struct.pack("<IH", 0, self.protocol) + self.role.encode() + struct.pack("<Q", self.cluster_hash)
        return head + struct.pack("<Q", len(self.cluster)) + pairs + struct.pack("<QQ", self.layout_hash, self.row_bytes)


@dataclass(frozen=True)
class Insert:
    """Rows for one shard. Data frames: the rows; |td| as f32 if `has_priorities`."""

    shard: int
    sequence: int
    rows: int
    has_priorities: bool

    def encode(self) -> bytes:
        return struct.pack("<IHQI?", 1, self.shard, self.sequence, self.rows, self.has_priorities)


@dataclass(frozen=True)
class Sample:
    """A request for `count` items of one shard."""

    request: int
    shard: int
    count: int
    share: float
    timeout_ms: int

    def encode(self) -> bytes:
        return struct.pack("<IQHIdI", 2, self.request, self.shard, self.count, self.share, self.timeout_ms)


@dataclass(frozen=True)
class UpdatePriorities:
    """New |td| of items of one shard. Data frames: keys as u64, |td| as f32."""

    shard: int
    count: int

    def encode(self) -> bytes:
        return struct.pack("<IHI", 3, self.shard, self.count)


@dataclass(frozen=True)
class ShardState:
    """What a shard holds: items, the sum of their priorities, and the rows inserted since the table is there."""

    items: int = 0
    mass: float = 0.0
    inserts: int = 0


@dataclass(frozen=True)
class Welcome:
    """The greeting is accepted."""

    shards: Tuple[ShardState, ...]
    window: int


@dataclass(frozen=True)
class RefusedReply:
    """The request was not carried out."""

    refusal: refusals.Refusal


@dataclass(frozen=True)
class Inserted:
    """All batches of this client up to `sequence` are in the table."""

    shard: int
    sequence: int
    rows_refused: int
    credit: int


@dataclass(frozen=True)
class Sampled:
    """A sample. Data frames: keys as u64, probabilities as f64, rows, actors as u32."""

    request: int
    shard: int
    count: int
    state: ShardState

    def check(self, frames: Sequence[bytes], row_bytes: int) -> None:
        """Checks the data frames against this header.

        Raises:
            WireError: A frame is missing or has another length.
        """
        expected = [8 * self.count, 8 * self.count, row_bytes * self.count, 4 * self.count]
        found = [len(frame) for frame in frames]
        if found != expected:
            raise WireError(f"data frames of a sample have {found} bytes, expected {expected}")


@dataclass(frozen=True)
class NotSampled:
    """The rate limiter held the sample back until its time was over."""

    request: int
    shard: int
    inserts_missing: int
    state: ShardState


Reply = Union[Welcome, RefusedReply, Inserted, Sampled, NotSampled]


def decode_reply(header: bytes) -> Reply:
    """Reads the header of a reply.

    Raises:
        WireError: The bytes are no reply of this protocol.
    """
    if len(header) > HEADER_BYTES_MAX:
        raise WireError(f"header of {len(header)} bytes, expected at most {HEADER_BYTES_MAX}")
    reader = _Reader(header)
    number = reader.u32()
    if number >= len(_REPLIES):
        raise WireError(f"reply number {number} is unknown, expected 0 to {len(_REPLIES) - 1}")
    reply = _REPLIES[number](reader)
    reader.end()
    return reply


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


class _Reader:
    """Takes values from the front of a header."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise WireError(f"header of {len(self._data)} bytes is cut: byte {end} is needed")
        data, self._at = self._data[self._at : end], end
        return data

    def end(self) -> None:
        if self._at != len(self._data):
            raise WireError(f"header has {len(self._data) - self._at} bytes after its end")

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def f64(self) -> float:
        value: float = struct.unpack("<d", self.take(8))[0]
        return value

    def text(self) -> str:
        try:
            return self.take(self.u64()).decode()
        except UnicodeDecodeError as error:
            raise WireError(f"text in a header is not UTF-8: {error}") from error

    def texts(self) -> Tuple[str, ...]:
        return tuple(self.list(self.text, 8))

    def state(self) -> ShardState:
        return ShardState(self.u64(), self.f64(), self.u64())

    def states(self) -> Tuple[ShardState, ...]:
        return tuple(self.list(self.state, 24))

    def list(self, item: Callable[[], _T], bytes_min: int) -> List[_T]:
        """Reads a list whose items have at least `bytes_min` bytes, so that its length can be checked first."""
        count = self.u64()
        left = len(self._data) - self._at
        if count * bytes_min > left:
            raise WireError(f"list of {count} items is longer than its header: {left} bytes are left")
        return [item() for _ in range(count)]


def _refused(reader: _Reader) -> Reply:
    number = reader.u32()
    if number >= len(_REFUSALS):
        raise WireError(f"refusal number {number} is unknown, expected 0 to {len(_REFUSALS) - 1}")
    kind = refusals.ALL[number]
    refusal: refusals.Refusal = kind(*(_READ[type_](reader) for type_ in _REFUSALS[number]))
    return RefusedReply(refusal)


_READ: Dict[str, Callable[[_Reader], object]] = {
    "u16": _Reader.u16,
    "u64": _Reader.u64,
    "text": _Reader.text,
    "texts": _Reader.texts,
}
# The types of the fields of each refusal, in the order of `refusals.ALL`.
_REFUSALS: Tuple[Tuple[str, ...], ...] = (
    ("u16", "u16"),
    ("texts",),
    ("u64", "u64"),
    (),
    ("u16", "u16"),
    ("text",),
    (),
    (),
    ("texts",),
    ("text", "text"),
    ("text", "u64"),
    ("text",),
)
_REPLIES: Tuple[Callable[[_Reader], Reply], ...] = (
    lambda r: Welcome(r.states(), r.u32()),
    _refused,
    lambda r: Inserted(r.u16(), r.u64(), r.u32(), r.u32()),
    lambda r: Sampled(r.u64(), r.u16(), r.u32(), r.state()),
    lambda r: NotSampled(r.u64(), r.u16(), r.u64(), r.state()),
)
