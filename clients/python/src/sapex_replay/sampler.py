"""The learner's side of a client: draws over all shards, and priorities on their way back.

A draw is one batch in preparation. Its items are spread over the shards by Multinomial(B, q) with q_s = M_s / sum of M.
Each shard is asked, also for no item, so that its rate limiter accounts for its share.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from .batch import Part
from .inserter import OTHERS_PATIENCE, MakeLink
from .link import Link
from .settings import Settings
from .wire import Hello, Learner, NotSampled, Sample, Sampled, ShardState, UpdatePriorities, Welcome

# For how long a shard's limiter may hold a sample back before it answers NotSampled and is asked again. It is below the
# time after which a server counts as away.
_HOLD = 1.0
# Most messages of priorities that wait for one server.
_PRIORITIES_MAX = 256


class Draw:
    """A batch in preparation. `dead` means that a shard went away and the draw will not be completed."""

    def __init__(self, request: int, count: int, share: float, chances: Dict[int, float], counts: Dict[int, int]) -> None:
        self.request = request
        self.count = count
        self.share = share
        self.chances = chances
        self.missing = counts
        self.asked_at: Dict[int, float] = {}
        self.ask_at = dict.fromkeys(counts, 0.0)
        self.held_back: Dict[int, int] = {}
        self.parts: List[Part] = []
        self.dead = False
        # Whether somebody waits for this draw. Otherwise nothing more is asked for it.
        self.wanted = True

    def is_complete(self) -> bool:
        return not self.missing


class Sampler:
    """The learner of a client. All methods run with the client's lock held."""

    def __init__(self, settings: Settings, make_link: MakeLink, rng: np.random.Generator) -> None:
        self.settings = settings
        self._rng = rng
        self._links = [make_link(endpoint, self._hello) for endpoint in settings.endpoints]
        self._incarnation = secrets.randbits(64)
        self.states = [ShardState()] * (len(self._links) * settings.shards)
        self._draws: Dict[int, Draw] = {}
        self._next_request = 0
        self._priorities: List[Deque[Tuple[bytes, bytes, bytes]]] = [deque() for _ in self._links]
        self._first_welcome_at: Optional[float] = None
        self._ready = False

    def links(self) -> Iterator[Link]:
        return iter(self._links)

    def tick(self, now: float) -> bool:
        """Receives and sends what is due. Returns whether anything has changed for those who wait.

        Raises:
            Refused: A server refuses this client.
            WireError: A server does not speak this protocol.
        """
        changed = False
        for server, link in enumerate(self._links):
            for reply, frames in link.tick(now):
                changed = True
                if isinstance(reply, Welcome):
                    self._first_welcome_at = now if self._first_welcome_at is None else self._first_welcome_at
                    for shard, state in enumerate(reply.shards[: self.settings.shards]):
                        self.states[server * self.settings.shards + shard] = state
                elif isinstance(reply, (Sampled, NotSampled)) and reply.shard < self.settings.shards:
                    shard = server * self.settings.shards + reply.shard
                    self.states[shard] = reply.state
                    self._answered(shard, reply, frames, now)
            changed = self._send_priorities(server) or changed
        for draw in list(self._draws.values()):
            changed = self._ask(draw, now) or changed
        if not self._ready and self._first_welcome_at is not None:
            others = now - self._first_welcome_at >= OTHERS_PATIENCE
            self._ready = others or all(link.greeted for link in self._links)
            changed = changed or self._ready
        return changed

    def due_at(self) -> Optional[float]:
        """Returns when a shard has to be asked again."""
        times = [draw.ask_at[shard] for draw in self._draws.values() if draw.wanted for shard in draw.missing]
        return min(times, default=None)

    def start(self, count: int, now: float) -> Optional[Draw]:
        """Starts a draw of `count` items, or takes one up that was left. Returns None if no server is up."""
        for draw in self._draws.values():
            if not draw.wanted and draw.count == count and not draw.dead:
                draw.wanted = True
                return draw
        up = [shard for shard in range(len(self.states)) if self._link_of(shard).is_up(now)]
        if not self._ready or not up:
            return None
        masses = np.array([self.states[shard].mass for shard in up])
        total = masses.sum()
        chances: NDArray[np.float64] = masses / total if total > 0 else np.full(len(up), 1 / len(up))
        counts = self._rng.multinomial(count, chances)
        request, self._next_request = self._next_request, self._next_request + 1
        draw = Draw(
            request,
            count,
            count / len(up),
            dict(zip(up, map(float, chances))),
            dict(zip(up, map(int, counts))),
        )
        self._draws[request] = draw
        return draw

    def leave(self, draw: Draw) -> None:
        """Keeps what a draw has for the next one that asks for as many items; a limiter has accounted for it."""
        draw.wanted = False
        for other in [other for other in self._draws.values() if not other.wanted and other is not draw]:
            self.finish(other)

    def finish(self, draw: Draw) -> None:
        """Forgets a draw."""
        self._draws.pop(draw.request, None)

    def put_priorities(self, keys: NDArray[Any], td_abs: NDArray[np.float32], now: float) -> Optional[int]:
        """Sends priorities of items of one shard. Returns how many were not sent because the server is away.

        Returns None if too many priorities wait already.
        """
        server, shard = divmod(int(keys["shard"][0]), self.settings.shards)
        if not self._ready:
            return None
        if not self._links[server].is_up(now):
            return len(keys)
        if len(self._priorities[server]) >= _PRIORITIES_MAX:
            return None
        header = UpdatePriorities(shard, len(keys)).encode()
        frames = (header, keys["key"].astype("<u8").tobytes(), td_abs.astype("<f4").tobytes())
        self._priorities[server].append(frames)
        return 0

    def has_priorities(self) -> bool:
        """Returns whether priorities wait to be sent."""
        return any(self._priorities)

    def reasons(self, now: float) -> Sequence[str]:
        """Returns why servers are away, and what the rate limiters wait for."""
        found = [reason for reason in (link.reason(now) for link in self._links) if reason]
        for draw in self._draws.values():
            for shard, inserts in sorted(draw.held_back.items()):
                if shard in draw.missing:
                    local, server = shard % self.settings.shards, self._link_of(shard).server
                    found.append(f"the rate limiter of shard {local} of {server} waits for {inserts} more inserted rows")
        return found

    def _link_of(self, shard: int) -> Link:
        return self._links[shard // self.settings.shards]

    def _hello(self) -> Hello:
        settings = self.settings
        return settings.hello(Learner(self._incarnation, settings.batch_size, settings.shards, len(self.states)))

    def _ask(self, draw: Draw, now: float) -> bool:
        """Asks the shards that are due. Returns whether the draw has died."""
        if any(not self._link_of(shard).is_up(now) for shard in draw.missing):
            draw.dead = True
            self.finish(draw)
            return True
        for shard, count in draw.missing.items():
            if draw.wanted and now >= draw.ask_at[shard]:
                local = shard % self.settings.shards
                header = Sample(draw.request, local, count, draw.share, int(1000 * _HOLD)).encode()
                asked = self._link_of(shard).ask([header], now)
                draw.asked_at[shard] = now
                # A shard answers within the time, so an answer that is missing after twice the time was lost.
                draw.ask_at[shard] = now + (2 * _HOLD if asked else 0.05)
        return False

    def _answered(self, shard: int, reply: object, frames: List[bytes], now: float) -> None:
        assert isinstance(reply, (Sampled, NotSampled))
        draw = self._draws.get(reply.request)
        if draw is None or shard not in draw.missing:
            return
        if isinstance(reply, NotSampled):
            draw.held_back[shard] = reply.inserts_missing
            # An answer before the time is over is no reason to ask again at once.
            draw.ask_at[shard] = max(now, draw.asked_at.get(shard, now) + _HOLD / 2)
            return
        reply.check(frames, self.settings.layout.row_bytes)
        if reply.count == draw.missing[shard]:
            del draw.missing[shard]
            draw.parts.append(Part(shard, draw.chances[shard], *frames))

    def _send_priorities(self, server: int) -> bool:
        queue, link = self._priorities[server], self._links[server]
        sent = False
        if queue and not link.greeted:
            # Priorities are worth less than an unblocked learner. A server that has restarted has other items anyway.
            queue.clear()
            return True
        while queue and link.tell(queue[0]):
            queue.popleft()
            sent = True
        return sent
