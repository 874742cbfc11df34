"""Inserting exactly once: the batches that one server has not acknowledged yet (docs/protocol.md).

Batches are numbered per shard and kept until they are acknowledged. After silence, or on a new connection, all of them
are sent again in order, and the server drops those that it has. A batch of one shard is never sent to another.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, List, Optional, Tuple

from .link import Link
from .wire import INSERT_WINDOW_MAX, Insert, Inserted, Welcome

# Silence after which a server that owes an acknowledgement is greeted.
_ASK_AFTER = 1.0
# Time without an acknowledgement after which batches are sent again. It doubles while the server answers greetings and
# acknowledges nothing: it then holds the batches back, and has not lost them.
_RESEND = (1.0, 8.0)

_log = logging.getLogger(__name__)


@dataclass
class Ticket:
    """What became of the rows of one call of `insert`."""

    rows: int
    taken: int = 0
    acknowledged: int = 0


@dataclass(frozen=True)
class RowBatch:
    """Rows for one Insert, with the frames that follow its header."""

    rows: int
    frames: Tuple[bytes, ...]
    ticket: Ticket


@dataclass
class Lane:
    """The batches of one shard. The first `sent` of those that wait were sent over the present connection."""

    next: int = 1
    # Rows that were given to this shard.
    rows: int = 0
    credit: int = 1
    sent: int = 0
    waiting: Deque[Tuple[int, RowBatch]] = field(default_factory=deque)

    def spare(self) -> int:
        return self.credit - len(self.waiting)

    def oldest(self) -> int:
        return self.waiting[0][0] if self.waiting else self.next


class Uploads:
    """The lanes of one server."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.lanes: List[Lane] = []
        self.rows_refused = 0
        self.acknowledged_at = float("-inf")
        self._connection = 0
        self._progress_at = 0.0
        self._resend_after = _RESEND[0]

    def oldest_unacknowledged(self) -> Tuple[int, ...]:
        return tuple(lane.oldest() for lane in self.lanes)

    def waiting(self) -> int:
        """Returns the number of batches that are not acknowledged."""
        return sum(len(lane.waiting) for lane in self.lanes)

    def best_lane(self, now: float) -> Optional[Lane]:
        """Returns the lane with the most room, the least used one of these, or None if no lane has room."""
        if not self.link.is_up(now):
            return None
        best = max(self.lanes, key=lambda lane: (lane.spare(), -lane.next), default=None)
        return best if best is not None and best.spare() > 0 else None

    def take(self, lane: Lane, batch: RowBatch, now: float) -> None:
        """Numbers a batch. From here on it is this shard's."""
        if not self.waiting():
            self._progress_at = now
        lane.waiting.append((lane.next, batch))
        lane.next += 1
        lane.rows += batch.rows
        batch.ticket.taken += batch.rows

    def welcomed(self, reply: Welcome, now: float) -> None:
        while len(self.lanes) < len(reply.shards):
            self.lanes.append(Lane(credit=min(reply.window, INSERT_WINDOW_MAX)))
        if self._connection != self.link.connection:
            self._connection = self.link.connection
            self._resend(now)
        elif self._is_overdue(now):
            self._resend_after = min(2 * self._resend_after, _RESEND[1])
            self._resend(now)

    def forgotten(self) -> None:
        """The server does not know this connection any more: after the next welcome all is sent again."""
        self._connection = 0

    def inserted(self, reply: Inserted, now: float) -> None:
        if reply.shard >= len(self.lanes):
            return
        lane = self.lanes[reply.shard]
        lane.credit = min(reply.credit, INSERT_WINDOW_MAX)
        while lane.waiting and lane.waiting[0][0] <= reply.sequence:
            _, batch = lane.waiting.popleft()
            lane.sent = max(lane.sent - 1, 0)
            batch.ticket.acknowledged += batch.rows
            self._progress_at = self.acknowledged_at = now
            self._resend_after = _RESEND[0]
        if reply.rows_refused:
            self.rows_refused += reply.rows_refused
            _log.warning("%s refused %d rows: a number is out of range", self.link.server, reply.rows_refused)

    def send(self, now: float) -> None:
        """Sends what has not been sent over this connection, and greets where an acknowledgement is due."""
        if self.waiting() and (self._is_overdue(now) or self.link.silence(now) >= _ASK_AFTER):
            self.link.greet(now)
        if not self.link.greeted or self._connection != self.link.connection:
            return
        for shard, lane in enumerate(self.lanes):
            while lane.sent < len(lane.waiting):
                sequence, batch = lane.waiting[lane.sent]
                header = Insert(shard, sequence, batch.rows, len(batch.frames) > 1)
                if not self.link.ask([header.encode(), *batch.frames], now):
                    return
                lane.sent += 1

    def _is_overdue(self, now: float) -> bool:
        return bool(self.waiting()) and now - self._progress_at >= self._resend_after

    def _resend(self, now: float) -> None:
        self._progress_at = now
        for lane in self.lanes:
            lane.sent = 0
