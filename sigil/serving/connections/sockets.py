"""The sockets of this process, read from its descriptors: who is connected, what the client received, and the end."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Iterator

from sigil.serving.connections.activity import Peer

_DESCRIPTORS = "/proc/self/fd"
# tcpi_bytes_acked of struct tcp_info (linux/tcp.h, since 4.1): bytes that the client's kernel has acknowledged.
_BYTES_ACKED = struct.Struct("120xQ")
_RESERVE = 4
_TCP_FAMILIES = {socket.AF_INET, socket.AF_INET6}
_RESET = struct.pack("ii", 1, 0)


class DescriptorTable:
    """Lists the descriptors of this process. It holds some in reserve, for the case that no other one is left."""

    def __init__(self) -> None:
        self._reserve: list[int] = []
        self.fill_reserve()

    def open_now(self) -> list[int]:
        """All open descriptors; OSError (EMFILE) when there is none to read them with."""
        # Not Path.iterdir, which makes an object for each of up to 10 000.
        return [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208

    def free(self, descriptors: list[int]) -> int:
        """How many more this process may open, when it has `descriptors`."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return sys.maxsize if soft == resource.RLIM_INFINITY else soft - len(descriptors)

    def release_reserve(self) -> None:
        """Free the reserve: accept() needs a descriptor even to say that there is no connection."""
        while self._reserve:
            os.close(self._reserve.pop())

    def fill_reserve(self) -> None:
        """OSError when descriptors are short."""
        while len(self._reserve) < _RESERVE:
            self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def inode(descriptor: int) -> int | None:
    """The number of the socket behind a descriptor; None when it is closed, or no socket."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


def client_of(descriptor: int, port: int) -> Peer | None:
    """The client of a connection to `port` of this host; None for any other descriptor."""
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        is_tcp = connection.family in _TCP_FAMILIES and connection.type == socket.SOCK_STREAM
        if is_tcp and connection.getsockname()[1] == port:
            host, number = connection.getpeername()[:2]
            return host.partition("%")[0], str(number)
    return None


def bytes_acknowledged(descriptor: int) -> int | None:
    """What the client has received on this connection, TLS and headers included; None when it is closed."""
    try:
        with _borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            return int(_BYTES_ACKED.unpack(info)[0])
    except OSError:
        return None


def shut_down(descriptor: int, expected_inode: int, *, reset: bool) -> bool:
    """End a connection that the HTTP server holds: its reads end, and it releases the descriptor. False when the
    descriptor has another socket by now.

    With `reset`, the kernel keeps no unread data for the client.
    """
    try:
        own = os.dup(descriptor)
    except OSError:
        return False
    with socket.socket(fileno=own) as connection:
        if inode(own) != expected_inode:
            return False
        with contextlib.suppress(OSError):
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.shutdown(socket.SHUT_RDWR)
        return True


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object around a descriptor of the HTTP server; it stays open."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
