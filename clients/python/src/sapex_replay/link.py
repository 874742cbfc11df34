"""A connection to one replay server in one role: it greets, keeps its place, and is made anew when it breaks.

Each connection has a socket of its own. A socket that libzmq would reconnect by itself could mix replies of the server
before and after a restart. All methods run in the client's thread, with the client's lock held.
"""

from __future__ import annotations

import os
import random
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import refusals
from .errors import InvalidSettings, Refused
from .tls import Relay, Tls
from .wire import FRAME_BYTES_MAX, Hello, RefusedReply, Reply, ShardState, Welcome, decode_reply

# Least time between two greetings, and the time after which one is due if nothing else was sent.
HELLO_EVERY = 0.5
HEARTBEAT = 1.0
# A server that owes an answer for this long counts as away.
DOWN_AFTER = 3.0
# Time for a connection and its handshakes, and the wait between two attempts, first and longest. A welcome ends a series
# of attempts.
_PATIENCE = 5.0
_RETRY = (0.05, 2.0)
_BROKEN = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

Frames = Sequence[bytes]


class Link:
    """A connection to the server at the address `server`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        server: str,
        tls: Optional[Tls],
        hello: Callable[[], Hello],
        place_patience: float,
    ) -> None:
        self.server = server
        # Counts the connections, so that others see that theirs is gone.
        self.connection = 0
        self.greeted = False
        # Counts the welcomes. Each says what the server's shards hold.
        self.welcomes = 0
        self.states: Tuple[ShardState, ...] = ()
        # Set to be greeted at the next tick, for fresh `states`.
        self.wants_states = False
        self._context = context
        self._tls = None if self._is_ipc() else tls
        self._hello = hello
        self._place_patience = place_patience
        self._socket: Optional[zmq.Socket[bytes]] = None
        self._monitor: Optional[zmq.Socket[bytes]] = None
        self._relay: Optional[Relay] = None
        self._connected = False
        self._since = 0.0
        self._retry_at = 0.0
        self._wait = _RETRY[0]
        self._reason = "no attempt to connect yet"
        self._hello_at: Optional[float] = None
        self._asked_at: Optional[float] = None
        self._waiting_since: Optional[float] = None
        self._in_use_since: Optional[float] = None

    def sockets(self) -> List[zmq.Socket[bytes]]:
        """Returns what has to be polled."""
        return [socket for socket in (self._socket, self._monitor) if socket is not None]

    def due_at(self) -> Optional[float]:
        """Returns when the next attempt to connect is due."""
        return self._retry_at if self._socket is None else None

    def is_up(self, now: float) -> bool:
        """Returns whether the server has welcomed this client and owes no answer for long."""
        return self.greeted and self.silence(now) < DOWN_AFTER

    def silence(self, now: float) -> float:
        """Returns for how long the server has owed an answer."""
        return 0.0 if self._waiting_since is None else now - self._waiting_since

    def reason(self, now: float) -> Optional[str]:
        """Returns why the server is away, or None if it is not."""
        if self.is_up(now):
            return None
        if self._connected and self.greeted:
            return f"{self.server} has not answered for {self.silence(now):.1f} s"
        return f"{self.server} is not ready: {self._reason}"

    def tick(self, now: float) -> Iterator[Tuple[Reply, List[bytes]]]:
        """Connects, greets, and returns the replies that have arrived.

        Raises:
            Refused: The server refuses this client, and asking again cannot help.
            WireError: The server sent something else than a reply.
        """
        if self._socket is None and now >= self._retry_at:
            self._open(now)
        # Replies first: they were sent before the connection broke.
        while self._socket is not None:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            reply = decode_reply(frames[0])
            self._read(reply, now)
            yield reply, frames[1:]
            # After the caller has seen the refusal: it may have made a new connection, for another place.
            if isinstance(reply, RefusedReply) and self._has_no_place(now):
                raise Refused(self.server, reply.refusal)
        self._watch(now)
        if self._connected and self.wants_states:
            self.wants_states = False
            self._greet_now(now)
        elif self._connected and (not self.greeted or self._is_quiet(now)):
            self.greet(now)

    def greet(self, now: float) -> None:
        """Greets, unless that was done a moment ago."""
        if self._connected and (self._hello_at is None or now - self._hello_at >= HELLO_EVERY):
            self._greet_now(now)

    def ask(self, frames: Frames, now: float) -> bool:
        """Sends a request that the server answers. Returns False if it cannot be sent now."""
        if not self.tell(frames):
            return False
        self._asked_at = now
        if self._waiting_since is None:
            self._waiting_since = now
        return True

    def tell(self, frames: Frames) -> bool:
        """Sends a message without an answer. Returns False if it cannot be sent now."""
        if self._socket is None or not self._connected:
            return False
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def restart(self, now: float) -> None:
        """Makes a new connection, so that nothing that was sent before is answered."""
        self._drop(0)
        self._retry_at = now
        self._in_use_since = None

    def close(self) -> Optional[Relay]:
        """Ends the connection. What was sent has a second to arrive. Returns the relay, which needs that second too."""
        relay = self._relay
        self._drop(1000)
        return relay

    def _greet_now(self, now: float) -> None:
        if self.ask([self._hello().encode()], now):
            self._hello_at = now

    def _open(self, now: float) -> None:
        self.connection += 1
        self._since = now
        self._retry_at = now + self._wait * random.uniform(0.5, 1.0)
        self._wait = min(2 * self._wait, _RETRY[1])
        try:
            # Shows wrong files at once, and with their names.
            if self._tls is not None:
                self._tls.context()
                self._relay = Relay(self.server, self._tls, _PATIENCE)
        except (OSError, InvalidSettings) as error:
            self._reason = str(error)
            return
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(1000 * _PATIENCE))
        socket.setsockopt(zmq.CONNECT_TIMEOUT, int(1000 * _PATIENCE))
        socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        socket.setsockopt(zmq.IPV6, int("[" in self.server))
        self._socket = socket
        self._monitor = socket.get_monitor_socket(_BROKEN | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            socket.connect(self._relay.address if self._relay else self.server)
        except zmq.ZMQError as error:
            self._broken(str(error), now)

    def _watch(self, now: float) -> None:
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                break
            if event["event"] & _BROKEN:
                reason = _described(event["event"], event["value"])
                wants_tls = "" if self._connected or self._tls or self._is_ipc() else "; does the server want TLS?"
                self._broken(f"{reason}{wants_tls}" if event["event"] != zmq.EVENT_CLOSED else reason, now)
            else:
                self._connected = True
                self._reason = "the greeting is not answered yet"
        if self._socket is not None and not self._connected and now - self._since > _PATIENCE:
            self._broken(f"no connection within {_PATIENCE:g} s", now)

    def _broken(self, reason: str, now: float) -> None:
        said = self._relay.reason(0.2) if self._relay else None
        self._drop(0)
        self._reason = said or reason
        self._retry_at = max(self._retry_at, now)

    def _drop(self, linger_ms: int) -> None:
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger_ms)
        if self._monitor is not None:
            self._monitor.close(0)
        self._socket = self._monitor = self._relay = None
        self._connected = self.greeted = False
        self._hello_at = self._asked_at = self._waiting_since = None

    def _is_ipc(self) -> bool:
        return not self.server.startswith("tcp://")

    def _is_quiet(self, now: float) -> bool:
        return self._asked_at is None or now - self._asked_at >= HEARTBEAT

    def _read(self, reply: Reply, now: float) -> None:
        self._waiting_since = None
        if isinstance(reply, Welcome):
            self.greeted = True
            self.welcomes += 1
            self._wait = _RETRY[0]
            self.states = reply.shards
            self._in_use_since = None
        elif isinstance(reply, RefusedReply):
            self._refused(reply.refusal, now)

    def _refused(self, refusal: refusals.Refusal, now: float) -> None:
        self._reason = str(refusal)
        if isinstance(refusal, refusals.InUse):
            self.greeted = False
            self._in_use_since = now if self._in_use_since is None else self._in_use_since
        elif isinstance(refusal, refusals.NotGreeted):
            self.greeted = False
        elif refusal.final or isinstance(refusal, refusals.Malformed):
            # This package would send the same bytes again.
            raise Refused(self.server, refusal)

    def _has_no_place(self, now: float) -> bool:
        return self._in_use_since is not None and now - self._in_use_since >= self._place_patience


def _described(event: int, value: int) -> str:
    if event == zmq.EVENT_DISCONNECTED:
        return "the connection has ended"
    if event == zmq.EVENT_CLOSED:
        return "no server listens there"
    return f"the handshake failed ({os.strerror(value) if value < 200 else f'code {value:#x}'})"
