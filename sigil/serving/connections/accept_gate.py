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
# A registration in /proc/<pid>/fdinfo of an epoll instance: proc_pid_fdinfo(5).
_REGISTRATION = re.compile(r"tfd:\s+(\d+)\s+events:\s+([0-9a-f]+)\s+data:\s+([0-9a-f]+)")


class _EpollEvent(ctypes.Structure):
    # epoll_event is packed on x86-64 alone: epoll_ctl(2).
    _pack_ = 1 if platform.machine() in {"x86_64", "AMD64"} else 8
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class AcceptGate:
    """Open, closed, or closed for good; `listener` is the worker's descriptor of a listening socket that other
    processes share. `closed` says which, `port` is the
    port of the socket.

    The shared socket can be neither closed nor shut down here. To close the gate, each of its descriptors is replaced
    by one of a socket to which no client connects. That needs no free descriptor. Thread-safe. Linux only: elsewhere
    the gate stays open.
    """

    def __init__(self, listener: int) -> None:
        self.closed = False
        self._final = False
        self._lock = threading.Lock()
        self._own = os.dup(listener)
        with socket.socket(fileno=os.dup(listener)) as listening:
            self.port: int = listening.getsockname()[1]
        self._inode = os.fstat(listener).st_ino
        self._idle = socket.create_server(("127.0.0.1", 0), backlog=1)
        # Non-blocking like the shared socket: an accept() that waits would block its thread.
        self._idle.setblocking(False)
        self._descriptors = {listener}

    def is_listener(self, descriptor: int, inode: int) -> bool:
        """True for a descriptor of the shared socket, or of this object; remembers those that the gate replaces."""
        if inode == self._inode and descriptor != self._own:
            self._descriptors.add(descriptor)
        return inode == self._inode or descriptor in self._descriptors or descriptor == self._idle.fileno()

    def close(self, *, final: bool = False) -> None:
        """Stop accepting; with `final`, `open` no longer has an effect. OSError."""
        with self._lock:
            self._final = self._final or final
            self._replace_by(self._idle.fileno())
            self.closed = sys.platform == "linux"

    def open(self) -> None:
        """Accept again, beginning with the connections that arrived in the meantime. OSError."""
        with self._lock:
            if self.closed and not self._final:
                self._replace_by(self._own)
                self.closed = False
                self._wake_acceptor()

    def _replace_by(self, descriptor: int) -> None:
        if sys.platform == "linux":
            for number in self._descriptors:
                os.dup2(descriptor, number, inheritable=False)

    def _wake_acceptor(self) -> None:
        # The acceptor waits for an edge of epoll, and connections that are already queued cause none. Setting the same
        # registration again makes the kernel look at the queue.
        libc = ctypes.CDLL(None, use_errno=True)
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) == _EPOLL_LINK:
                    text = Path(f"/proc/self/fdinfo/{entry.name}").read_text(encoding="ascii")
                    for target, events, data in _REGISTRATION.findall(text):
                        if int(target) in self._descriptors:
                            event = _EpollEvent(int(events, 16), int(data, 16))
                            libc.epoll_ctl(int(entry.name), _EPOLL_CTL_MOD, int(target), ctypes.byref(event))
