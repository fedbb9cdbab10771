"""Peers that answer badly, or not at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def peer(answer: Answer, tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """The port of a listener that calls `answer` with each connection and its request."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(60)
            served = context.wrap_socket(connection, server_side=True) if context else connection
            with served:
                answer(served, served.recv(65536))

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(60)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose kernel drops new connections: its queue is full, and nothing accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


def response(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def sends(data: bytes) -> Answer:
    return lambda connection, _request: connection.sendall(data)


def hangs(connection: socket.socket, _request: bytes) -> None:
    """Until the other side closes."""
    connection.recv(1)


def drips(connection: socket.socket, _request: bytes) -> None:
    """A valid answer that never ends, one byte in a tenth of a second."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    pause = threading.Event()
    while not pause.wait(0.1):
        connection.sendall(b"{")


def floods(connection: socket.socket, _request: bytes) -> None:
    """An answer without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)
