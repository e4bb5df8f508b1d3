"""A TCP connection between a client and a server that is late, or is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class TcpProxy:
    """Hands on what comes, both ways.

    delay: seconds by which each piece of an answer is late. silent: answers are swallowed.
    closed: new connections are closed at once.
    """

    def __init__(self, port: int):
        self.port, self.delay, self.silent, self.closed = port, 0.0, False, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Close the connections that there are."""
        with self._lock:
            opened, self._open = self._open, []
        for one in opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.port))
            with self._lock:
                self._open += [client, server]
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self.delay:
                    time.sleep(self.delay)
                if not (answers and self.silent):
                    target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
