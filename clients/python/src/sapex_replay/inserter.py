"""The actor's side of a client: it holds a place at every server and gives each batch of rows to a shard."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Callable, Iterator, List, Optional, Sequence

from . import refusals
from .link import Link
from .settings import Settings
from .uploads import RowBatch, Uploads
from .wire import Actor, Hello, Inserted, RefusedReply, Welcome

# Ids that are drawn lie above those that are configured.
_DRAWN = (1 << 20, 1 << 31)
# Time to wait for the other servers after the first has welcomed a drawn id. A server that is away for longer knows no
# actor, or says later that the id is taken.
OTHERS_PATIENCE = 2.0

MakeLink = Callable[[str, Callable[[], Hello]], Link]


class Inserter:
    """The actor of a client. All methods run with the client's lock held."""

    def __init__(self, settings: Settings, make_link: MakeLink) -> None:
        self.settings = settings
        self.is_drawn = settings.actor_id is None
        self.id = self._draw() if settings.actor_id is None else settings.actor_id
        self._incarnation = secrets.randbits(64)
        self._ready = False
        self._first_welcome_at: Optional[float] = None
        self.uploads: List[Uploads] = []
        for server, endpoint in enumerate(settings.endpoints):
            self.uploads.append(Uploads(make_link(endpoint, partial(self._hello, server))))

    def links(self) -> Iterator[Link]:
        return (uploads.link for uploads in self.uploads)

    def tick(self, now: float) -> bool:
        """Receives and sends what is due. Returns whether anything has changed for those who wait.

        Raises:
            Refused: A server refuses this client.
            WireError: A server does not speak this protocol.
        """
        changed = False
        for uploads in self.uploads:
            for reply, _ in uploads.link.tick(now):
                changed = True
                if isinstance(reply, Welcome):
                    uploads.welcomed(reply, now)
                    if self._first_welcome_at is None:
                        self._first_welcome_at = now
                elif isinstance(reply, Inserted):
                    uploads.inserted(reply, now)
                elif isinstance(reply, RefusedReply) and self._take_another_id(reply.refusal, now):
                    return True
                elif isinstance(reply, RefusedReply) and isinstance(reply.refusal, refusals.NotGreeted):
                    uploads.forgotten()
            uploads.send(now)
        if not self._ready and self._first_welcome_at is not None:
            others = now - self._first_welcome_at >= OTHERS_PATIENCE
            self._ready = others or all(link.greeted for link in self.links())
            changed = changed or self._ready
        return changed

    def due_at(self) -> Optional[float]:
        return None

    def take(self, batch: RowBatch, now: float) -> bool:
        """Gives a batch to the shard with the most room. Returns False if no shard has room."""
        if not self._ready:
            return False
        lanes = [(uploads, uploads.best_lane(now)) for uploads in self.uploads]
        open_lanes = [(uploads, lane) for uploads, lane in lanes if lane is not None]
        if not open_lanes:
            return False
        uploads, lane = max(open_lanes, key=lambda pair: (pair[1].spare(), -pair[1].next))
        uploads.take(lane, batch, now)
        return True

    def waiting(self) -> int:
        """Returns the number of batches that are not acknowledged."""
        return sum(uploads.waiting() for uploads in self.uploads)

    def acknowledged_at(self) -> float:
        """Returns when a server last acknowledged a batch."""
        return max(uploads.acknowledged_at for uploads in self.uploads)

    def rows_waiting(self) -> int:
        """Returns the number of rows that are not acknowledged."""
        lanes = (lane for uploads in self.uploads for lane in uploads.lanes)
        return sum(batch.rows for lane in lanes for _, batch in lane.waiting)

    def reasons(self, now: float) -> Sequence[str]:
        """Returns what each server waits for."""
        found: List[str] = []
        for uploads in self.uploads:
            reason = uploads.link.reason(now)
            if reason is None and uploads.waiting():
                reason = f"{uploads.link.server} holds {uploads.waiting()} batches back: its rate limiter waits for samples"
            found.extend([reason] if reason else [])
        return found

    @staticmethod
    def _draw() -> int:
        return _DRAWN[0] + secrets.randbelow(_DRAWN[1] - _DRAWN[0])

    def _take_another_id(self, refusal: refusals.Refusal, now: float) -> bool:
        """Draws another id if another process has the one that was drawn, and nothing was inserted with it."""
        is_unused = all(lane.next == 1 for uploads in self.uploads for lane in uploads.lanes)
        if not (isinstance(refusal, refusals.InUse) and self.is_drawn and is_unused):
            return False
        self.id = self._draw()
        self._ready = False
        self._first_welcome_at = None
        for link in self.links():
            link.restart(now)
        return True

    def _hello(self, server: int) -> Hello:
        settings = self.settings
        oldest = self.uploads[server].oldest_unacknowledged()
        role = Actor(self.id, self._incarnation, oldest, settings.insert_rows)
        return settings.hello(role)
