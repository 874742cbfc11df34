"""TLS for connections to replay servers. libzmq has no TLS, so each connection gets a relay.

The relay listens on a Unix socket in a private folder and takes one connection there, that of libzmq. It connects to the
server with TLS 1.3 and both certificates, and passes bytes on in both directions. One thread serves both, because a TLS
session may be used by one thread at a time.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from .errors import InvalidSettings

SERVER_ROLE = "sapex://role/replay-server"
# Largest number of bytes that wait in one direction. Beyond it nothing more is read there.
_WAITING_MAX = 1 << 20
_READ_BYTES = 256 << 10
# Time in which the last bytes may still arrive after libzmq has closed its side.
_LINGER = 1.0


@dataclass(frozen=True)
class Tls:
    """PEM files: the trusted CAs, this process's certificate with its chain, and its private key.

    They are read at every connection, so that renewed files are used without a restart.
    """

    ca: str
    cert: str
    key: str

    @staticmethod
    def of_section(section: Any) -> Optional[Tls]:
        """Reads the section [tls] of the settings. Returns None if it sets nothing."""
        if not isinstance(section, Mapping):
            raise InvalidSettings("[tls]", repr(section), "a section with the keys ca, cert and key")
        values = {key: str(section.get(key, "")) for key in ("ca", "cert", "key")}
        if not any(values.values()):
            return None
        for key, value in values.items():
            if not value:
                raise InvalidSettings(f"tls.{key}", "empty", "a PEM file: [tls] has all three keys or none")
        return Tls(**values)

    def context(self) -> ssl.SSLContext:
        """Reads the files.

        Raises:
            InvalidSettings: A file cannot be read, or the key does not belong to the certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.ca)
        except (OSError, ValueError) as error:
            raise InvalidSettings("tls.ca", f"{self.ca} ({error})", "a PEM file of certificates") from error
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            what, value = "tls.cert and tls.key", f"{self.cert}, {self.key} ({error})"
            raise InvalidSettings(what, value, "a certificate and its key without a password, as PEM files") from error
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def split_tcp(address: str) -> Tuple[str, int]:
    """Returns host and port of `tcp://HOST:PORT`. An IPv6 host stands in brackets there."""
    host, _, port = address[len("tcp://") :].rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not address.startswith("tcp://") or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise InvalidSettings("address of a replay server", repr(address), "tcp://HOST:PORT or ipc://PATH")
    return host, int(port)


class Relay:
    """A connection with TLS to a server, for one connection of libzmq to `address`."""

    def __init__(self, server: str, tls: Tls, patience: float) -> None:
        self._server = split_tcp(server)
        self._tls = tls
        self._patience = patience
        self._reason: Optional[str] = None
        # A folder that only this user may enter: whoever connects there uses our certificate.
        self._folder = tempfile.mkdtemp(prefix="sapex-")
        path = os.path.join(self._folder, "relay")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            self._remove_folder()
            raise
        self.address = f"ipc://{path}"
        self._thread = threading.Thread(target=self._run, name="sapex-relay", daemon=True)
        self._thread.start()

    def reason(self, within: float) -> Optional[str]:
        """Returns why the connection ended, if it has ended by itself. Waits until then, at most `within` seconds."""
        self._thread.join(within)
        return self._reason

    def _run(self) -> None:
        try:
            with self._listener as listener:
                listener.settimeout(self._patience)
                local, _ = listener.accept()
            self._remove_folder()
            with local, self._dial() as server:
                _Pump(local, server).run()
        except (OSError, ValueError, InvalidSettings) as error:
            self._reason = _explained(error)
        finally:
            self._remove_folder()

    def _dial(self) -> ssl.SSLSocket:
        context = self._tls.context()
        plain = socket.create_connection(self._server, timeout=self._patience)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = context.wrap_socket(plain, server_hostname=self._server[0])
        except BaseException:
            plain.close()
            raise
        try:
            check_role(server.getpeercert() or {})
        except BaseException:
            server.close()
            raise
        return server

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def check_role(certificate: Mapping[str, Any]) -> None:
    """Checks that a certificate, as `getpeercert` describes it, is that of a replay server.

    Raises:
        ssl.SSLCertVerificationError: It has another role, none or several.
    """
    names = certificate.get("subjectAltName", ())
    roles: List[str] = [value for kind, value in names if kind == "URI" and value.startswith("sapex://")]
    if roles != [SERVER_ROLE]:
        raise ssl.SSLCertVerificationError(f"the server's certificate names the roles {roles}, expected [{SERVER_ROLE!r}]")


def _explained(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message if getattr(error, 'verify_message', '') else error}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(error) or type(error).__name__


class _Pump:
    """Passes bytes between libzmq (`local`) and the server until one of them ends."""

    def __init__(self, local: socket.socket, server: ssl.SSLSocket) -> None:
        self._local = local
        self._server = server
        self._to_server = bytearray()
        self._to_local = bytearray()
        self._local_ended_at: Optional[float] = None
        self._shut = False

    def run(self) -> None:
        self._local.setblocking(False)
        self._server.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._local, selectors.EVENT_READ)
            selector.register(self._server, selectors.EVENT_READ)
            while not self._is_over():
                self._watch(selector)
                has_more = self._server.pending() > 0 and len(self._to_local) < _WAITING_MAX
                # A TLS session may want to read to be able to write, and the other way round, so each turn tries both.
                selector.select(0 if has_more else 0.5 if self._local_ended_at is None else 0.05)
                self._read_local()
                self._write_server()
                if not self._read_server():
                    self._write_local()
                    return
                self._write_local()

    def _is_over(self) -> bool:
        return self._local_ended_at is not None and time.monotonic() > self._local_ended_at + _LINGER

    def _watch(self, selector: selectors.BaseSelector) -> None:
        reads = self._local_ended_at is None and len(self._to_server) < _WAITING_MAX
        self._set(selector, self._local, reads, bool(self._to_local))
        self._set(selector, self._server, len(self._to_local) < _WAITING_MAX, bool(self._to_server))

    @staticmethod
    def _set(selector: selectors.BaseSelector, of: socket.socket, reads: bool, writes: bool) -> None:
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
        watched = of in selector.get_map()
        if events and watched:
            selector.modify(of, events)
        elif events:
            selector.register(of, events)
        elif watched:
            selector.unregister(of)

    def _read_local(self) -> None:
        if self._local_ended_at is not None or len(self._to_server) >= _WAITING_MAX:
            return
        try:
            data = self._local.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            data = b""
        if data:
            self._to_server += data
        else:
            self._local_ended_at = time.monotonic()

    def _write_server(self) -> None:
        while self._to_server:
            try:
                with memoryview(self._to_server) as waiting:
                    sent = self._server.send(waiting[:_READ_BYTES])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except ConnectionError:
                # A server that no longer reads has often said why before: reading raises that.
                self._read_server()
                raise
            del self._to_server[:sent]
        if self._local_ended_at is not None and not self._shut:
            # What libzmq sent is handed over. The server's end follows, and until then its bytes are read and dropped,
            # because closing a connection with unread bytes may lose bytes in flight.
            self._shut = True
            try:
                self._server.unwrap()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            # That of the plain socket: SSLSocket.shutdown would forget the session.
            socket.socket.shutdown(self._server, socket.SHUT_WR)

    def _read_server(self) -> bool:
        """Returns whether the server is still there."""
        while len(self._to_local) < _WAITING_MAX:
            try:
                data = self._server.recv(_READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            except ssl.SSLEOFError:
                return False
            if not data:
                return False
            if self._local_ended_at is None:
                self._to_local += data
        return True

    def _write_local(self) -> None:
        while self._to_local:
            try:
                sent = self._local.send(self._to_local)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                self._local_ended_at = self._local_ended_at or time.monotonic()
                self._to_local.clear()
                return
            del self._to_local[:sent]
