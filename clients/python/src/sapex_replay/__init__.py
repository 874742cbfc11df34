"""Client of Sapex's replay server: sharded, prioritized, rate-limited, with inserts exactly once."""

from . import refusals
from .batch import KEY, UNKNOWN_ACTOR, Batch
from .client import ReplayClient, ShardStatus
from .errors import Closed, InsertTimedOut, InvalidInput, InvalidSettings, Refused, ReplayError, TimedOut, WireError
from .layout import ROW_VALUE_MAX, TD_ABS_MAX, Field, RowLayout
from .tls import Tls

__version__ = "0.1.0"

__all__ = [
    "KEY",
    "ROW_VALUE_MAX",
    "TD_ABS_MAX",
    "UNKNOWN_ACTOR",
    "Batch",
    "Closed",
    "Field",
    "InsertTimedOut",
    "InvalidInput",
    "InvalidSettings",
    "Refused",
    "ReplayClient",
    "ReplayError",
    "RowLayout",
    "ShardStatus",
    "TimedOut",
    "Tls",
    "WireError",
    "refusals",
]
