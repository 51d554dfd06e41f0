"""Servers on real sockets that answer as a sidecar does, or as none should."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from stopper.wire import Decision, DecisionBatch, DecisionEvent, Decisions

VERSION = "0123456789abcdef"
Handler = Callable[[socket.socket, bytes], bool]
"""Answers one request, given its body, on its connection; returns whether to keep that open."""


def decide(event: DecisionEvent, *, stop: bool = False, artifact: str | None = VERSION) -> Decision:
    return Decision(
        request_id=event.request_id,
        position=event.position,
        stop=stop and not event.audit,
        reason="score_above_threshold" if stop else "score_below_threshold",
        score=2.0 if stop else 0.0,
        threshold=1.0,
        alpha=event.alpha,
        artifact=artifact,
        marked=stop and bool(event.audit),
    )


def events(body: bytes) -> list[DecisionEvent]:
    return msgspec.msgpack.decode(body, type=DecisionBatch).events


def packed(*decisions: Decision) -> bytes:
    return msgspec.msgpack.encode(Decisions(list(decisions)))


def http(content: bytes, status: int = 200, kind: str = "application/msgpack") -> bytes:
    head = f"HTTP/1.1 {status} Well\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


def good(connection: socket.socket, body: bytes) -> bool:
    connection.sendall(http(packed(*(decide(event, stop=True) for event in events(body)))))
    return True


def silent(connection: socket.socket, body: bytes) -> bool:
    with contextlib.suppress(OSError):
        connection.settimeout(2)
        connection.recv(1)  # until the asker gives up
    return False


def slow(seconds: float) -> Handler:
    def answer(connection: socket.socket, body: bytes) -> bool:
        time.sleep(seconds)
        return good(connection, body)

    return answer


def trickling(connection: socket.socket, body: bytes) -> bool:
    with contextlib.suppress(OSError):
        for byte in http(packed(*map(decide, events(body)))):
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
    return False


def saying(raw: bytes, *, keep: bool = False) -> Handler:
    def answer(connection: socket.socket, body: bytes) -> bool:
        connection.sendall(raw)
        return keep

    return answer


def cut_off(connection: socket.socket, body: bytes) -> bool:
    """Die in the middle of the answer."""
    connection.sendall(http(packed(*map(decide, events(body))))[:-5])
    return False


def mute(connection: socket.socket, body: bytes) -> bool:
    """Die before the answer."""
    return False


class Sidecar:
    """One of these servers; `handler` may be exchanged while it runs."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self.handler = handler
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", port), reuse_port=False)
        self.port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (body := self._read(connection)) is not None:
                self.bodies.append(body)
                if not self.handler(connection, body):
                    return

    def _read(self, connection: socket.socket) -> bytes | None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(1 << 16)
            if not part:
                return None
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        self.heads.append(head)
        (length,) = (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            part = connection.recv(1 << 16)
            if not part:
                return None
            body += part
        return body

    def close(self) -> None:
        # A thread that waits in `accept` keeps the port open unless the socket is shut down first.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(2)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def sidecar(handler: Handler) -> Iterator[Sidecar]:
    server = Sidecar(handler)
    try:
        yield server
    finally:
        server.close()


def nobody() -> str:
    """Return the URL of a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
