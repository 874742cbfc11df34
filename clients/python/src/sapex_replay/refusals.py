"""The reasons for which a replay server refuses a request. They stand in `Refused.refusal`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Tuple


@dataclass(frozen=True)
class Refusal:
    """Base of all refusals. `final` says that asking again cannot help."""

    final: ClassVar[bool] = True


@dataclass(frozen=True)
class Protocol(Refusal):
    """The versions of the protocol differ."""

    server: int
    client: int

    def __str__(self) -> str:
        return f"protocol version differs: {self.server} on the server and {self.client} on the client"


@dataclass(frozen=True)
class Cluster(Refusal):
    """`[cluster]` settings differ: one line per setting, with both values."""

    differences: Tuple[str, ...]

    def __str__(self) -> str:
        return f"[cluster] settings differ: {'; '.join(self.differences)}"


@dataclass(frozen=True)
class Layout(Refusal):
    """The rows differ although the settings agree. The numbers are the bytes of a row."""

    server: int
    client: int

    def __str__(self) -> str:
        return f"rows differ: {self.server} bytes on the server and {self.client} on the client, or other fields"


@dataclass(frozen=True)
class NotGreeted(Refusal):
    """The server does not know this connection. The client greets again by itself."""

    final: ClassVar[bool] = False

    def __str__(self) -> str:
        return "the server does not know this client yet"


@dataclass(frozen=True)
class UnknownShard(Refusal):
    """The server has only `shards` shards."""

    shard: int
    shards: int

    def __str__(self) -> str:
        return f"shard {self.shard} does not exist, the server has {self.shards}"


@dataclass(frozen=True)
class Malformed(Refusal):
    """The message violates the protocol: a defect of this package, which sends the same bytes no second time."""

    what: str

    def __str__(self) -> str:
        return f"malformed message: {self.what}"


@dataclass(frozen=True)
class Quarantined(Refusal):
    """The connection sent too many wrong messages. The server ignores it for 60 s."""

    def __str__(self) -> str:
        return "quarantined for 60 s after too many wrong messages"


@dataclass(frozen=True)
class ShuttingDown(Refusal):
    """The server is stopping."""

    final: ClassVar[bool] = False

    def __str__(self) -> str:
        return "the server is shutting down"


@dataclass(frozen=True)
class Settings(Refusal):
    """Settings outside `[cluster]`, or a number in a request, exceed the server's: one line each."""

    differences: Tuple[str, ...]

    def __str__(self) -> str:
        return f"settings do not fit: {'; '.join(self.differences)}"


@dataclass(frozen=True)
class NotAllowed(Refusal):
    """The request belongs to another role, or the certificate does not permit the role."""

    request: str
    role: str

    def __str__(self) -> str:
        return f"{self.request} is not for {self.role}"


@dataclass(frozen=True)
class InUse(Refusal):
    """Another living process has the place. The client asks again for `place_patience` seconds."""

    final: ClassVar[bool] = False
    who: str
    silent_ms: int

    def __str__(self) -> str:
        return f"another process is {self.who}; it was heard of {self.silent_ms} ms ago"


@dataclass(frozen=True)
class Superseded(Refusal):
    """Another process has taken the place, because this one was silent for 5 s."""

    who: str

    def __str__(self) -> str:
        return f"another process is {self.who} now, because this one was silent"


# In the order of their numbers on the wire.
ALL: Tuple[type, ...] = (
    Protocol,
    Cluster,
    Layout,
    NotGreeted,
    UnknownShard,
    Malformed,
    Quarantined,
    ShuttingDown,
    Settings,
    NotAllowed,
    InUse,
    Superseded,
)
