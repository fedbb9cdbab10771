"""The listening sockets of a service, one per worker. The master keeps them open while workers come and go.

The kernel spreads connections evenly over them: with one socket for all, a burst of 200 connections went to one of two
workers. When a worker is killed or replaced, its successor serves the connections in the queue: with a socket that the
worker binds, as Granian does on Linux, they are reset.
"""

import errno
import socket
from typing import Any

from sigil.serving.startup_error import StartupError

_PRIVILEGED_PORTS = 1024


def listen(host: str, port: int, backlog: int, workers: int, *, port_setting: str) -> list[socket.socket]:
    """One listening socket per worker, on one port; StartupError. `port_setting` is for its text."""
    listeners: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        for _ in range(workers):
            listeners.append(_bound(family, address, first=not listeners))
            # With port 0, all sockets get the port of the first one.
            address = listeners[0].getsockname()
        for listener in listeners:
            listener.listen(backlog)
    except (OSError, OverflowError) as exc:
        for listener in listeners:
            listener.close()
        raise StartupError(listen_error(host, port, exc, port_setting)) from exc
    return listeners


def listen_error(host: str, port: int, error: Exception, port_setting: str) -> str:
    """One line with the reason and its remedy; `port_setting` is the variable or option that sets the port."""
    text = f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}"
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"{text}; stop that program, or set {port_setting} to another port"
    if number == errno.EACCES and port < _PRIVILEGED_PORTS:
        return f"{text}; ports under 1024 need root or CAP_NET_BIND_SERVICE; else set {port_setting} to another port"
    return text


def _bound(family: socket.AddressFamily, address: Any, *, first: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The first socket binds without SO_REUSEPORT, with which the kernel would silently share the port with another
        # server of the same user. It joins the group after that.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(not first))
        listener.bind(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        listener.close()
        raise
    return listener


def close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
