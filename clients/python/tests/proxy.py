"""A proxy in front of a server that cuts connections, as a bad network does."""

import socket
import threading
from typing import List, Tuple


class Proxy:
    """Passes bytes on. `cut` ends all connections at once; bytes in flight are lost."""

    def __init__(self, server: str, at: str = "127.0.0.1") -> None:
        host, port = server[len("tcp://") :].rsplit(":", 1)
        self._to = (host, int(port))
        self._listener = socket.create_server((at, 0))
        self.address = f"tcp://{at}:{self._listener.getsockname()[1]}"
        self._pairs: List[Tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        # Whether replies are kept from the client, and dropped with the connection.
        self.deaf = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._to, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=[client, server, False], daemon=True).start()
            threading.Thread(target=self._pump, args=[server, client, True], daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, are_replies: bool) -> None:
        with source:
            try:
                while data := source.recv(4096):
                    if not (are_replies and self.deaf):
                        target.sendall(data)
                target.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
