"""The guard of a worker, in the process of the test: without /proc, and for a port that is used again."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sigil.serving.connections import sockets
from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.connections.activity import ConnectionActivity
from sigil.serving.connections.guard import ConnectionGuard
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.observer import ConnectionObserver
from tests.serving.connections.test_floods import was_closed
from tests.serving.running import eventually


def at_once(call: Callable[[], None]) -> None:
    call()


def guard_of(
    listener: socket.socket, activity: ConnectionActivity, **limits: float
) -> tuple[ConnectionGuard, AcceptGate]:
    gate = AcceptGate(listener.fileno())
    of_test = replace(ConnectionLimits(), **limits)  # type: ignore[arg-type]
    return ConnectionGuard(gate, of_test, activity, ConnectionObserver(), on_loop=at_once), gate


def test_a_worker_without_proc_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sockets, "_DESCRIPTORS", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guard, gate = guard_of(listener, ConnectionActivity())
        with pytest.raises(FileNotFoundError):
            guard.check()
        assert not gate.closed


def test_a_port_that_is_used_again_starts_without_the_bytes_of_before() -> None:
    activity = ConnectionActivity()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guard, _ = guard_of(listener, activity, stalled=0.1, unread=1)
        first, served = connected(listener)
        port = first.getsockname()
        requests = activity.begin((port[0], str(port[1])))
        served.sendall(bytes(1000))
        requests.written += 1000
        assert len(first.recv(1000, socket.MSG_WAITALL)) == 1000
        looks(guard, lambda: requests.written_before == 1000)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        served.close()
        second, served = connected(listener, port)
        with second, served:
            until = time.monotonic() + 2.5
            looks(guard, lambda: time.monotonic() > until)
            served.sendall(b"open")
            assert second.recv(4) == b"open"
            # The bytes of its own count.
            requests.written += 1000
            looks(guard, lambda: was_closed(second))


def connected(listener: socket.socket, port: tuple[str, int] = ("127.0.0.1", 0)) -> tuple[socket.socket, socket.socket]:
    """A client, from `port`, and the server's end of its connection."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(port)
    client.settimeout(60)
    client.connect(listener.getsockname())
    return client, listener.accept()[0]


def looks(guard: ConnectionGuard, end: Callable[[], bool]) -> None:
    """The guard's thread looks every now and then until `end` is true."""

    def look() -> bool:
        guard.check()
        return end()

    eventually(look, "what the guard sees")
