"""The thread of a client. It owns the sockets, keeps the places at the servers, and wakes those who wait.

All state lies behind one lock. A caller changes it, wakes the thread, and waits for a change.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Dict, List, Optional, TypeVar, Union

import zmq

from .errors import Closed, Refused, ReplayError, WireError
from .inserter import Inserter
from .link import Link
from .sampler import Sampler
from .tls import Relay, Tls
from .wire import Hello

Group = Union[Inserter, Sampler]

# Longest time between two looks at what is due.
_TICK = 0.25
_T = TypeVar("_T")


class Loop:
    """Runs groups of links. A group that a server has refused stays closed, and its error is raised to its callers."""

    def __init__(self, tls: Dict[str, Optional[Tls]], place_patience: float) -> None:
        self.changed = threading.Condition()
        self._tls = tls
        self._place_patience = place_patience
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._groups: List[Group] = []
        self._failures: Dict[int, ReplayError] = {}
        self._stopping = False
        self._stop_once = threading.Lock()
        self._is_over = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="sapex-replay", daemon=True)
        self._thread.start()

    def link(self, role: str, server: str, hello: Callable[[], Hello]) -> Link:
        """Makes the link of a group to one server."""
        return Link(self._context, server, self._tls[role], hello, self._place_patience)

    def add(self, group: Group) -> None:
        """Runs a group from now on. The lock is held."""
        self._groups.append(group)

    def check_process(self) -> None:
        """Checks that the thread runs in this process. Without the lock: a fork may have left it locked.

        Raises:
            Closed: The client was made before a fork.
        """
        if self._process != os.getpid():
            raise Closed(f"this client belongs to process {self._process}, make one in each process")

    def check(self, group: Optional[Group] = None) -> None:
        """Checks that the client can be used, and the group. The lock is held.

        Raises:
            Closed: The client is closed.
            ReplayError: The group has failed.
        """
        failure = self._failures.get(id(group))
        if failure is not None:
            raise failure
        if self._stopping:
            raise Closed("this client is closed")

    def has_failed(self, group: Group) -> bool:
        """Returns whether a server has refused the group."""
        return id(group) in self._failures

    def is_stopped(self) -> bool:
        """Returns whether the client is closed, or belongs to another process."""
        return self._stopping or self._process != os.getpid()

    def wait(self, group: Group, deadline: float, attempt: Callable[[float], Optional[_T]]) -> Optional[_T]:
        """Tries until the attempt returns something, or the deadline has passed. Attempts run with the lock held.

        Raises:
            ReplayError: The group has failed, or the client is closed.
        """
        with self.changed:
            while True:
                self.check(group)
                now = time.monotonic()
                result = attempt(now)
                self._wake()
                if result is not None or now >= deadline:
                    return result
                self.changed.wait(min(deadline - now, 1.0))

    def stop(self) -> None:
        """Ends the thread. What was sent has a second to arrive."""
        if self._process != os.getpid():
            return
        with self._stop_once:
            if self._is_over:
                return
            with self.changed:
                self._stopping = True
                self._wake()
                self.changed.notify_all()
            self._thread.join()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._is_over = True

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"w")
        except BlockingIOError:
            pass  # The pipe is full, so the thread will wake anyway.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # A defect: those who wait must learn of it, or they would wait in vain.
            with self.changed:
                for group in self._groups:
                    self._failures.setdefault(id(group), ReplayError(f"the client's thread ended: {error!r}"))
                self.changed.notify_all()
            raise
        finally:
            self._end()

    def _turn(self) -> bool:
        with self.changed:
            stopping, now = self._stopping, time.monotonic()
            for group in self._groups:
                if not self.has_failed(group):
                    self._tick(group, now)
            if stopping:
                return False
            poller = zmq.Poller()
            poller.register(self._wake_read, zmq.POLLIN)
            due = now + _TICK
            for group in self._groups:
                links = list(group.links())
                for socket in (socket for link in links for socket in link.sockets()):
                    poller.register(socket, zmq.POLLIN)
                times = [group.due_at(), *(link.due_at() for link in links)]
                if not self.has_failed(group):
                    due = min([due, *(at for at in times if at is not None)])
        if any(socket == self._wake_read for socket, _ in poller.poll(max(0, int(1000 * (due - now)) + 1))):
            os.read(self._wake_read, 1 << 16)
        return True

    def _tick(self, group: Group, now: float) -> None:
        try:
            changed = group.tick(now)
        except (Refused, WireError) as error:
            self._failures[id(group)] = error
            for link in group.links():
                link.close()
            changed = True
        if changed:
            self.changed.notify_all()

    def _end(self) -> None:
        with self.changed:
            self._stopping = True
            relays: List[Relay] = []
            for link in (link for group in self._groups for link in group.links()):
                relays.extend(relay for relay in [link.close()] if relay is not None)
        self._context.term()
        for relay in relays:
            relay.reason(1.0)
