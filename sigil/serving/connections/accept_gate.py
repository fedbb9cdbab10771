"""Pauses and resumes the acceptance of connections in this process; the HTTP server takes no part in it.

Granian's acceptor calls accept() again at once after an error. In a process without a free descriptor (EMFILE) it
spins, and with TLS its thread then runs nothing else: closed connections are never released. While the gate is closed,
accept() gives EAGAIN, and the thread continues. A worker that drains stops accepting the same way (decision 0020).
"""

import contextlib
import ctypes
import os
import platform
import re
import socket
import sys
import threading
from pathlib import Path

_EPOLL_CTL_MOD = 3
_EPOLL_LINK = "anon_inode:[eventpoll]"
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
# TEST-NET-1 of RFC 5737, and the discard prefix of RFC 6666: no host has such an address. The second is for loopback.
_NO_ADDRESS = {socket.AF_INET: ("192.0.2.1", "127.0.0.1"), socket.AF_INET6: ("100::1", "::1")}
# A registration in /proc/<pid>/fdinfo of an epoll instance: proc_pid_fdinfo(5).
_REGISTRATION = re.compile(r"tfd:\s+(\d+)\s+events:\s+([0-9a-f]+)\s+data:\s+([0-9a-f]+)")


class _EpollEvent(ctypes.Structure):
    # epoll_event is packed on x86-64 alone: epoll_ctl(2).
    _pack_ = 1 if platform.machine() in {"x86_64", "AMD64"} else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class AcceptGate:
    """Open, closed, or closed for good. `listener` is the descriptor from which the HTTP server accepts, of a socket
    that other processes share; `port` is its port.

    The shared socket can be neither closed nor shut down here. To close the gate, the descriptor is replaced by one of
    a socket to which no client can connect. That needs no free descriptor. Thread-safe. Linux only: elsewhere the gate
    stays open.
    """

    def __init__(self, listener: int) -> None:
        self.closed = False
        self._final = False
        self._lock = threading.Lock()
        self._listener = listener
        self._own = os.dup(listener)
        with socket.socket(fileno=os.dup(listener)) as listening:
            self.port: int = listening.getsockname()[1]
            # Of the same family: a host may have no address of the other one, or refuse its sockets.
            self._idle = _unreachable_listener(listening.family).detach()

    def close(self, *, final: bool = False) -> None:
        """Stop accepting; with `final`, `open` no longer has an effect. OSError."""
        with self._lock:
            self._final = self._final or final
            self._replace_by(self._idle)
            self.closed = sys.platform == "linux"

    def open(self) -> None:
        """Accept again, beginning with the connections that arrived in the meantime. OSError, and it stays closed."""
        with self._lock:
            if self.closed and not self._final:
                # Read first: the connections that wait may take all descriptors at once.
                registrations = self._registrations()
                self._replace_by(self._own)
                self.closed = False
                self._wake_acceptor(registrations)

    def _replace_by(self, descriptor: int) -> None:
        if sys.platform == "linux":
            os.dup2(descriptor, self._listener, inheritable=False)

    def _registrations(self) -> list[tuple[int, _EpollEvent]]:
        """The epoll instances that watch the listener, and with which events."""
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            if _is_epoll(entry):
                text = Path(f"/proc/self/fdinfo/{entry.name}").read_text(encoding="ascii")
                for target, events, data in _REGISTRATION.findall(text):
                    if int(target) == self._listener:
                        found.append((int(entry.name), _EpollEvent(int(events, 16), int(data, 16))))
        return found

    def _wake_acceptor(self, registrations: list[tuple[int, _EpollEvent]]) -> None:
        # The acceptor waits for an edge of epoll, and connections that are already queued cause none. Setting the same
        # registration again makes the kernel look at the queue.
        libc = ctypes.CDLL(None, use_errno=True)
        for epoll, event in registrations:
            libc.epoll_ctl(epoll, _EPOLL_CTL_MOD, self._listener, ctypes.byref(event))


def _is_epoll(entry: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return str(entry.readlink()) == _EPOLL_LINK
    return False


def _unreachable_listener(family: int) -> socket.socket:
    """A listening socket whose queue stays empty. On an address of this host, any of its programs could connect to it,
    past all limits, while a gate is closed.
    """
    nowhere, loopback = _NO_ADDRESS[socket.AddressFamily(family)]
    listener = socket.socket(family)
    if sys.platform == "linux":
        level, option = (
            (socket.IPPROTO_IP, _IP_FREEBIND) if family == socket.AF_INET else (socket.IPPROTO_IPV6, _IPV6_FREEBIND)
        )
        try:
            listener.setsockopt(level, option, 1)
            listener.bind((nowhere, 0))
        # A sandbox may not know the option.
        except OSError:
            listener.bind((loopback, 0))
    listener.listen(1)
    # Non-blocking like the shared socket: an accept() that waits would block its thread.
    listener.setblocking(False)
    return listener
