"""The errors of this package. Each carries its facts as attributes."""

from __future__ import annotations

from typing import Sequence, Tuple

from .refusals import Refusal


class ReplayError(Exception):
    """Base of all errors of this package."""


class InvalidInput(ReplayError, ValueError):
    """An argument is wrong. Nothing was sent."""

    def __init__(self, what: str, value: object, expected: str) -> None:
        super().__init__(f"{what} is {value}, expected {expected}")
        self.what = what
        self.value = value
        self.expected = expected


class InvalidSettings(InvalidInput):
    """A setting is missing or wrong. `what` is its key."""


class Refused(ReplayError):
    """A server refuses this client, and asking again cannot help."""

    def __init__(self, server: str, refusal: Refusal) -> None:
        super().__init__(f"{server} refused this client: {refusal}")
        self.server = server
        self.refusal = refusal


class TimedOut(ReplayError, TimeoutError):
    """The time was over. `reasons` says what each server was waiting for, or why it is away."""

    def __init__(self, what: str, seconds: float, reasons: Sequence[str]) -> None:
        because = "".join(f"; {reason}" for reason in reasons)
        super().__init__(f"{what} took more than {seconds:g} s{because}")
        self.what = what
        self.seconds = seconds
        self.reasons: Tuple[str, ...] = tuple(reasons)


class InsertTimedOut(TimedOut):
    """Rows were not acknowledged in time.

    The first `taken` of the `rows` rows are numbered and kept: they will be inserted, exactly once, as soon as a server
    accepts them. Insert the others again if you want them, and never the first ones. `acknowledged` rows are in the
    table.
    """

    def __init__(
        self, what: str, seconds: float, reasons: Sequence[str], *, rows: int, taken: int, acknowledged: int
    ) -> None:
        super().__init__(f"{what} of {rows} rows ({taken} taken, {acknowledged} acknowledged)", seconds, reasons)
        self.rows = rows
        self.taken = taken
        self.acknowledged = acknowledged


class Closed(ReplayError):
    """The client is closed, or belongs to another process."""


class WireError(ReplayError):
    """A server sent bytes that are no message of this protocol."""
