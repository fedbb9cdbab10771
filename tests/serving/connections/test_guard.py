"""The guard of a worker in a process without /proc."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sigil.serving.connections import sockets
from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.connections.activity import ConnectionActivity
from sigil.serving.connections.guard import ConnectionGuard
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.observer import ConnectionObserver


def at_once(call: Callable[[], None]) -> None:
    call()


def test_a_worker_without_proc_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sockets, "_DESCRIPTORS", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = AcceptGate(listener.fileno())
        guard = ConnectionGuard(gate, ConnectionLimits(), ConnectionActivity(), ConnectionObserver(), on_loop=at_once)
        with pytest.raises(FileNotFoundError):
            guard.check()
        assert not gate.closed
