"""`ReplayClient`: what a user of a replay server calls."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Deque, List, Mapping, Optional, Sequence, Type, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batch import KEY, Batch, join
from .errors import InsertTimedOut, InvalidInput, TimedOut
from .inserter import OTHERS_PATIENCE, Inserter
from .layout import TD_ABS_MAX, RowLayout, check_range
from .link import Link
from .loop import Group, Loop
from .sampler import Draw, Sampler
from .settings import Config, Settings, check_actor_id
from .tls import Tls, split_tcp
from .uploads import RowBatch, Ticket
from .wire import FRAME_BYTES_MAX, SAMPLE_ITEMS_MAX

_ROLES = ("actor", "learner")
# Age that the numbers in the answer to a greeting may have: 0.1 s, and some time for a busy server.
_STATES_AGE = 0.15


@dataclass(frozen=True)
class ShardStatus:
    """What a shard holds. `is_up` says whether its server has just answered; otherwise the numbers are the last known.

    `inserts` counts the rows inserted since the table is there, `mass` is the sum of the priorities.
    """

    server: str
    shard: int
    is_up: bool
    items: int
    mass: float
    inserts: int


class ReplayClient:
    """Inserts rows into the replay of a run, samples them and updates their priorities.

    The first call that inserts greets the servers as an actor, and the first that samples as the learner; a run has one
    learner at a time. A thread keeps the connections. The methods may be called from several threads.
    """

    def __init__(
        self,
        address: Union[str, Sequence[str], None] = None,
        *,
        config: Config,
        actor_id: Optional[int] = None,
        beta: Optional[float] = None,
        tls: Union[Tls, Mapping[str, Tls], None] = None,
        timeout: float = 30.0,
        place_patience: float = 15.0,
        seed: Optional[int] = None,
    ) -> None:
        """Prepares a client. Nothing is sent yet.

        Args:
            address: The address of the replay server, or of all of them in order; None for those in the settings.
            config: The settings of the run, as `replay-server --config FILE --print-config` prints them: a TOML or JSON
                file, or a mapping of sections.
            actor_id: A number that no other actor of the run has; by default `actor.id`, which draws one.
            beta: Exponent of the importance weights; by default `learner.importance_sampling_exponent`.
            tls: Certificates for tcp:// addresses: one for both roles, or a mapping with the keys "actor" and
                "learner"; by default those of the section [tls].
            timeout: Seconds after which a call gives up, where the call itself gets none.
            place_patience: Seconds for which a place is asked for that another process holds.
            seed: Seed of the choice among shards.

        Raises:
            InvalidSettings: A setting is missing or wrong.
        """
        settings = Settings.load(config)
        if address is not None:
            settings = replace(settings, endpoints=(address,) if isinstance(address, str) else tuple(address))
        for endpoint in settings.endpoints:
            if not endpoint.startswith("ipc://"):
                split_tcp(endpoint)
        if actor_id is not None:
            settings = replace(settings, actor_id=check_actor_id("actor_id", actor_id))
        if beta is not None:
            settings = replace(settings, importance_exponent=_beta(beta))
        self._settings = settings
        self._timeout = _seconds("timeout", timeout)
        self._rng = np.random.default_rng(seed)
        files = {role: _tls_of(role, tls, settings.tls) for role in _ROLES}
        for file in files.values():
            if file is not None:
                file.context()
        self._loop = Loop(files, _seconds("place_patience", place_patience))
        self._inserter: Optional[Inserter] = None
        self._sampler: Optional[Sampler] = None

    @property
    def layout(self) -> RowLayout:
        """The fields of a row."""
        return self._settings.layout

    @property
    def rows_refused(self) -> int:
        """Number of rows that servers acknowledged and did not store, because a number was out of range."""
        self._loop.check_process()
        with self._loop.changed:
            return sum(uploads.rows_refused for uploads in self._inserter.uploads) if self._inserter else 0

    def insert(
        self,
        rows: Optional[Mapping[str, ArrayLike]] = None,
        /,
        *,
        td_abs: Optional[ArrayLike] = None,
        wait: bool = True,
        timeout: Optional[float] = None,
        **fields: ArrayLike,
    ) -> None:
        """Inserts rows, each exactly once.

        Rows are sent in batches of at most `actor.insert_rows`, each to the shard that has most room. A server that
        holds rows back makes this call wait. A batch that is not acknowledged is sent again, also after the server has
        restarted.

        Args:
            td_abs: |td| of each row, shape [rows]; a row without it enters with the largest priority so far.
            wait: Whether to wait until all rows are in the table. Otherwise the call returns when each batch has a place
                in a shard's window; `flush` waits for the rest.
            timeout: Seconds after which to give up.
            rows: The fields as a mapping, for names that are not known in advance.
            fields: One array per field of `layout`, each of shape [rows, *shape of the field]. Floats take any real
                numbers, images only uint8. `policy_version` is 0 where it is left out.

        Raises:
            InvalidInput: An array is missing, unknown, or has another shape, type or range. Nothing is sent then.
            InsertTimedOut: The time was over. The error says which rows are taken and will still be inserted.
            Refused: A server refuses this client.
        """
        block = self._settings.layout.pack({**(rows or {}), **fields})
        count = len(block)
        td = None if td_abs is None else _td_abs(td_abs, count)
        ticket = Ticket(count)
        step = max(1, min(self._settings.insert_rows, FRAME_BYTES_MAX // self._settings.layout.row_bytes))
        pending: Deque[RowBatch] = deque()
        for at in range(0, count, step):
            frames = [part[at : at + step].tobytes() for part in (block, td) if part is not None]
            pending.append(RowBatch(min(step, count - at), tuple(frames), ticket))
        seconds = self._seconds(timeout)
        inserter = self._open_inserter()

        def attempt(now: float) -> Optional[bool]:
            while pending and inserter.take(pending[0], now):
                pending.popleft()
            return True if not pending and (not wait or ticket.acknowledged == count) else None

        if self._loop.wait(inserter, time.monotonic() + seconds, attempt) is None:
            raise self._insert_timed_out(inserter, "insert", seconds, ticket)

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until every row that was inserted is acknowledged.

        Raises:
            InsertTimedOut: The time was over. The rows are kept and will still be inserted.
            Refused: A server refuses this client.
        """
        self._loop.check_process()
        inserter = self._inserter
        if inserter is None:
            return
        seconds = self._seconds(timeout)
        done = self._loop.wait(inserter, time.monotonic() + seconds, lambda _: None if inserter.waiting() else True)
        if done is None:
            with self._loop.changed:
                ticket = Ticket(rows=inserter.rows_waiting(), taken=inserter.rows_waiting())
            raise self._insert_timed_out(inserter, "flush", seconds, ticket)

    def sample(self, count: int, *, beta: Optional[float] = None, timeout: Optional[float] = None) -> Batch:
        """Draws `count` items over all shards, each in proportion to its priority.

        The rate limiter may make this call wait. What a call that timed out has drawn is kept for the next one with the
        same count.

        Args:
            count: Number of items, 1 to `learner.batch_size`.
            beta: Exponent of the importance weights.
            timeout: Seconds after which to give up.

        Raises:
            InvalidInput: An argument is out of range.
            TimedOut: The time was over. The error says what each server waits for.
            Refused: A server refuses this client.
        """
        if not isinstance(count, (int, np.integer)) or not 1 <= count <= self._settings.batch_size:
            raise InvalidInput("count", count, f"a whole number from 1 to learner.batch_size = {self._settings.batch_size}")
        exponent = self._settings.importance_exponent if beta is None else _beta(beta)
        seconds = self._seconds(timeout)
        sampler = self._open_sampler()
        draw: Optional[Draw] = None

        def attempt(now: float) -> Optional[Draw]:
            nonlocal draw
            if draw is None or draw.dead:
                draw = sampler.start(int(count), now)
            if draw is None or not draw.is_complete():
                return None
            sampler.finish(draw)
            return draw

        try:
            drawn = self._loop.wait(sampler, time.monotonic() + seconds, attempt)
        finally:
            with self._loop.changed:
                reasons = sampler.reasons(time.monotonic())
                if draw is not None and not draw.is_complete():
                    sampler.leave(draw)
        if drawn is None:
            raise TimedOut(f"a sample of {count} items", seconds, reasons)
        return join(drawn.parts, self._settings.layout, exponent)

    def update_priorities(self, keys: NDArray[Any], td_abs: ArrayLike, *, timeout: Optional[float] = None) -> int:
        """Sends the |td| of sampled items, from which servers make their priorities. There is no answer.

        An item that has been overwritten meanwhile is passed over. The last value of an item that is there twice holds.

        Args:
            keys: Items as in `Batch.keys`.
            td_abs: |td| of each, from 0 to 1e8.
            timeout: Seconds after which to give up if a connection takes nothing.

        Returns:
            The number of items that were not sent, because their server is away.

        Raises:
            InvalidInput: An argument has another shape, type or range. Nothing is sent then.
            TimedOut: The time was over before all were sent.
            Refused: A server refuses this client.
        """
        if not isinstance(keys, np.ndarray) or keys.dtype != KEY or keys.ndim != 1:
            raise InvalidInput("keys", _described(keys), f"an array of items as in Batch.keys: {KEY}")
        td = _td_abs(td_abs, len(keys))
        sampler = self._open_sampler()
        shards = len(sampler.states)
        if len(keys) and keys["shard"].max() >= shards:
            raise InvalidInput("largest shard in keys", keys["shard"].max(), f"at most {shards - 1}")
        seconds = self._seconds(timeout)
        deadline = time.monotonic() + seconds
        not_sent = 0
        for shard in np.unique(keys["shard"]):
            own = np.flatnonzero(keys["shard"] == shard)
            for at in range(0, len(own), SAMPLE_ITEMS_MAX):
                part = own[at : at + SAMPLE_ITEMS_MAX]
                left = self._loop.wait(sampler, deadline, partial(sampler.put_priorities, keys[part], td[part]))
                if left is None:
                    with self._loop.changed:
                        raise TimedOut("an update of priorities", seconds, sampler.reasons(time.monotonic()))
                not_sent += left
        return not_sent

    def status(self, timeout: Optional[float] = None) -> List[ShardStatus]:
        """Returns what every shard of the run holds.

        Servers renew these numbers every 0.1 s. They include all rows of this client that were acknowledged before the
        call, which takes up to 0.1 s longer for that.

        A server that does not answer within 2 s after another has answered is described by its last known numbers.

        Raises:
            TimedOut: No server has answered.
            Refused: A server refuses this client.
        """
        self._loop.check_process()
        group: Group
        sampler = self._sampler
        # As the learner only if this client is the learner anyway, so that looking takes nobody's place.
        group = sampler if sampler is not None and not self._loop.has_failed(sampler) else self._open_inserter()
        links: List[Link] = list(group.links())
        seconds = self._seconds(timeout)
        deadline = time.monotonic() + seconds
        if self._inserter is not None:
            time.sleep(min(seconds, max(0.0, self._inserter.acknowledged_at() + _STATES_AGE - time.monotonic())))
        before: List[int] = []
        first: List[float] = []

        def attempt(now: float) -> Optional[List[ShardStatus]]:
            if not before:
                before.extend(link.welcomes for link in links)
                for link in links:
                    link.wants_states = True
            answered = [link.welcomes > count for link, count in zip(links, before)]
            if any(answered) and not first:
                first.append(now)
            if not first or not (all(answered) or now - first[0] >= OTHERS_PATIENCE):
                return None
            return [
                ShardStatus(link.server, shard, is_up, state.items, state.mass, state.inserts)
                for link, is_up in zip(links, answered)
                for shard, state in enumerate(link.states)
            ]

        found = self._loop.wait(group, deadline, attempt)
        if found is None:
            with self._loop.changed:
                reasons = [reason for reason in (link.reason(time.monotonic()) for link in links) if reason]
            raise TimedOut("the status of the shards", seconds, reasons)
        return found

    def close(self, *, flush: bool = True, timeout: Optional[float] = None) -> None:
        """Waits until all rows are acknowledged, and ends the connections. Its places are free 5 s later.

        Args:
            flush: Whether to wait for rows that are not acknowledged. Without it they may be lost.
            timeout: Seconds for that wait.

        Raises:
            InsertTimedOut: Rows were not acknowledged in time. The client is closed nevertheless.
        """
        try:
            if flush and self._inserter is not None and not self._loop.is_stopped():
                if not self._loop.has_failed(self._inserter):
                    self.flush(timeout)
        finally:
            self._loop.stop()

    def __enter__(self) -> ReplayClient:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close(flush=error is None)

    def _open_inserter(self) -> Inserter:
        self._loop.check_process()
        with self._loop.changed:
            self._loop.check(self._inserter)
            if self._inserter is None:
                self._inserter = Inserter(self._settings, partial(self._loop.link, "actor"))
                self._loop.add(self._inserter)
            return self._inserter

    def _open_sampler(self) -> Sampler:
        self._loop.check_process()
        with self._loop.changed:
            self._loop.check(self._sampler)
            if self._sampler is None:
                self._sampler = Sampler(self._settings, partial(self._loop.link, "learner"), self._rng)
                self._loop.add(self._sampler)
            return self._sampler

    def _seconds(self, timeout: Optional[float]) -> float:
        return self._timeout if timeout is None else _seconds("timeout", timeout)

    def _insert_timed_out(self, inserter: Inserter, what: str, seconds: float, ticket: Ticket) -> InsertTimedOut:
        with self._loop.changed:
            return InsertTimedOut(
                what,
                seconds,
                inserter.reasons(time.monotonic()),
                rows=ticket.rows,
                taken=ticket.taken,
                acknowledged=ticket.acknowledged,
            )


def _seconds(what: str, value: float) -> float:
    if not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise InvalidInput(what, value, "a number of seconds of at least 0")
    return float(value)


def _beta(value: float) -> float:
    if not 0 <= value <= 1:
        raise InvalidInput("beta", value, "a number from 0 to 1")
    return float(value)


def _td_abs(value: ArrayLike, rows: int) -> NDArray[np.float32]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.shape != (rows,):
        raise InvalidInput("td_abs", _described(array), f"real numbers of shape [{rows}]")
    check_range("td_abs", array, 0.0, TD_ABS_MAX)
    return array.astype(np.float32)


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {list(value.shape)}"
    return f"a {type(value).__name__}"


def _tls_of(role: str, given: Union[Tls, Mapping[str, Tls], None], configured: Optional[Tls]) -> Optional[Tls]:
    if given is None:
        return configured
    if isinstance(given, Tls):
        return given
    for key in given:
        if key not in _ROLES:
            raise InvalidInput("key of tls", repr(key), " or ".join(map(repr, _ROLES)))
    return given.get(role, configured)
