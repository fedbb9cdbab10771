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


class PortInUse(StartupError):
    """Another program listens on the port; it may be a running process of this service."""


def check_listen(host: str, port: int, *, port_setting: str) -> None:
    """StartupError if `listen` would fail, PortInUse if only because another program listens there."""
    try:
        bound(*resolve(host, port), shares_port=False).close()
    except OSError as exc:
        kind = PortInUse if exc.errno == errno.EADDRINUSE else StartupError
        raise kind(listen_error(host, port, exc, port_setting)) from exc


def listen(host: str, port: int, backlog: int, workers: int, *, port_setting: str) -> list[socket.socket]:
    """One listening socket per worker, on one port; StartupError. `port_setting` is for its text."""
    listeners: list[socket.socket] = []
    try:
        family, address = resolve(host, port)
        for _ in range(workers):
            # The first socket binds without SO_REUSEPORT, with which the kernel would silently share the port with
            # another server of the same user. It joins the group after that.
            listeners.append(bound(family, address, shares_port=bool(listeners)))
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
    if isinstance(error, socket.gaierror) or number == errno.EADDRNOTAVAIL:
        return f"{text}; set the host to an address or name of this machine, or to * for all"
    if number == errno.EADDRINUSE:
        return f"{text}; stop that program, or set {port_setting} to another port"
    if number == errno.EACCES and port < _PRIVILEGED_PORTS:
        return f"{text}; ports under 1024 need root or CAP_NET_BIND_SERVICE; else set {port_setting} to another port"
    return text


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Family and address of the first address of `host`, a value of `listen_host`; OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0], found[0][4]


def bound(family: socket.AddressFamily, address: Any, *, shares_port: bool) -> socket.socket:
    """A bound socket that later ones may share the port with; OSError. `shares_port`: the port may be shared already.
    An unspecified IPv6 address accepts IPv4 too at any value of net.ipv6.bindv6only.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares_port))
        listener.bind(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        listener.close()
        raise
    return listener


def close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
