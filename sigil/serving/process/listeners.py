"""The listening sockets of a service, one per worker, which the master keeps while workers come and go.

The kernel spreads connections evenly over them (with one socket for all, a burst of 200 connections went to one of two
workers), and what waits in the queue of a worker that is killed or replaced is served by its successor (with a socket
that the worker binds, as Granian does on Linux, it is reset).
"""

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

from sigil.serving.startup_error import StartupError


def listen(host: str, port: int, backlog: int, workers: int) -> list[socket.socket]:
    """One listening socket per worker, on one port; StartupError."""
    listeners: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        for _ in range(workers):
            listeners.append(_bound(family, address, alone=not listeners))
            # So that port 0 is one port.
            address = listeners[0].getsockname()
        for listener in listeners:
            listener.listen(backlog)
    except (OSError, OverflowError) as exc:
        for listener in listeners:
            listener.close()
        raise StartupError(f"cannot listen on {host} port {port}: {getattr(exc, 'strerror', None) or exc}") from exc
    return listeners


def _bound(family: socket.AddressFamily, address: Any, *, alone: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The first one binds without SO_REUSEPORT: with it, the kernel would share the port silently with another
        # server of the same user. It joins the group afterwards.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(not alone))
        listener.bind(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        listener.close()
        raise
    return listener


def close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def stop_accepting(listener: int) -> None:
    """Take no connection from `listener`, a file descriptor, in this process any more; in others it goes on.

    Granian goes on accepting until it closes all connections, so whoever connected last is dropped unheard, and what is
    shared can be neither closed nor shut down here. So each of its descriptors becomes that of a socket to which nobody
    connects (docs/decisions/0020).
    """
    if sys.platform != "linux":
        return
    shared = os.fstat(listener)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as nobody:
        # As Granian made the shared one: an accept() that waits would hold its thread.
        nobody.setblocking(False)
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            # The descriptor of the listing itself is gone by now.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(number), shared):
                    os.dup2(nobody.fileno(), number, inheritable=False)
