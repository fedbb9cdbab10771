"""Writes the lines of a log without ever waiting for its reader.

A reader that stalls (a full pipe, a stopped terminal, a blocked journal) would stop the event loop of each worker and
the master. O_NONBLOCK on the inherited descriptor is no way out: the flag belongs to the open file description, which
the shell and other programs share. So a pipe or terminal is opened again, which gives a description of its own, and a
socket takes MSG_DONTWAIT with each line. A thread writes to what cannot be opened again.

Lines that do not fit wait in a bounded queue, which a thread writes; beyond the bound they are dropped and counted. A
line of at most PIPE_BUF bytes enters a pipe whole or not at all, so lines of several processes are never mixed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

QUEUE_BYTES = 256 * 1024
# The last part of the queue is kept for lines that say why something ended.
URGENT_BYTES = 32 * 1024
_POLL_SECONDS = 1.0
_REST_SECONDS = 0.02
_REPORT_SECONDS = 60.0
_LINES_AT_ONCE = 256


class Count(Protocol):
    """Index 0 is the number of dropped lines: a list, or memory that other processes read."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class LineWriter:
    """`summary(count, seconds)` makes the line that reports dropped lines, written once lines are written again.
    `on_failure` is called for a write that fails, not for a reader that stalls; at most once a minute.
    """

    def __init__(
        self,
        fd: int,
        summary: Callable[[int, float], bytes],
        on_failure: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self.dropped: Count = [0]
        self._on_failure = on_failure
        self._report_at = float("-inf")
        self._fd = fd
        self._summary = summary
        # Reentrant: the garbage collector may run a finalizer that logs.
        self._lock = threading.RLock()
        self._queued = threading.Condition(self._lock)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._unreported = 0
        self._first_drop = 0.0
        # The last write failed; it left a line without its end; the queue begins with the end of a line.
        self._failing = False
        self._torn = False
        self._begun = False
        self._blocking = False
        self._thread: threading.Thread | None = None
        self._send: Callable[[bytes], int] = self._open_and_send

    def write(self, line: bytes, *, urgent: bool = False) -> None:
        """Write `line`, which has at most PIPE_BUF bytes and ends with a newline; it never waits and raises nothing."""
        with self._lock:
            if self._unreported and not self._queue:
                self._put(self._take_summary(), urgent=True)
            self._put(line, urgent=urgent)

    def prepare(self) -> None:
        """Open the descriptor now. Otherwise the first line does, when a flood may have left no descriptor."""
        with self._lock, contextlib.suppress(OSError):
            self._open()

    def flush(self, seconds: float) -> None:
        """Wait for the queue, for `seconds` at most. What is left then is dropped: the process ends."""
        deadline = time.monotonic() + seconds
        while self._queue and time.monotonic() < deadline:
            time.sleep(_REST_SECONDS)
        with self._lock:
            self.dropped[0] += len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0

    def _put(self, line: bytes, *, urgent: bool) -> None:
        rest = line if self._queue else self._write_now(line, begun=False)
        if rest:
            bound = QUEUE_BYTES if urgent else QUEUE_BYTES - URGENT_BYTES
            if self._queued_bytes + len(rest) <= bound and self._run_thread():
                self._begun = self._begun if self._queue else rest is not line
                self._queue.append(rest)
                self._queued_bytes += len(rest)
                self._queued.notify()
            else:
                self._lose(torn=rest is not line)

    def _open(self) -> None:
        if self._send == self._open_and_send:
            send = _sender(self._fd)
            self._blocking = send is None
            self._send = send or _busy

    def _open_and_send(self, data: bytes) -> int:
        self._open()
        return self._send(data)

    def _write_now(self, line: bytes, *, begun: bool) -> bytes:
        """The part of `line` that has to wait; `begun`: `line` is itself such a part. Empty also when it is lost."""
        data = b"\n" + line if self._torn else line
        try:
            rest = data[self._send(data) :]
        except BlockingIOError:
            return line
        except OSError as error:
            # No reader, a closed descriptor, no space: a server does not stop because its log cannot be written.
            self._failing = True
            self._lose(torn=begun)
            self._report(error)
            return b""
        self._failing = self._torn = False
        return rest

    def _lose(self, *, torn: bool) -> None:
        self._torn = self._torn or torn
        if not self._unreported:
            self._first_drop = time.monotonic()
        self._unreported += 1
        self.dropped[0] += 1

    def _report(self, error: OSError) -> None:
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + _REPORT_SECONDS
            self._on_failure(error)

    def _take_summary(self) -> bytes:
        count, self._unreported = self._unreported, 0
        return self._summary(count, time.monotonic() - self._first_drop)

    def _run_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._write_queue, name="log writer", daemon=True)
            try:
                thread.start()
            # No thread can be started: the interpreter is ending, or a limit is reached.
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _write_queue(self) -> None:
        while True:
            with self._lock:
                if not self._queue and self._unreported and not self._failing:
                    self._put(self._take_summary(), urgent=True)
                while not self._queue:
                    self._queued.wait()
                first = self._queue[0]
            if self._blocking:
                self._write_and_wait(first)
            else:
                _wait_for_reader(self._fd)
                self._write_what_fits()

    def _write_and_wait(self, line: bytes) -> None:
        data, failed = line, False
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            failed = True
            self._report(error)
        with self._lock:
            self._failing = failed
            if failed:
                self._lose(torn=data is not line)
            if self._queue:
                self._queued_bytes -= len(self._queue.popleft())

    def _write_what_fits(self) -> None:
        for count in range(_LINES_AT_ONCE):
            with self._lock:
                if not self._queue:
                    return
                line = self._queue[0]
                rest = self._write_now(line, begun=self._begun)
                self._queued_bytes -= len(line) - len(rest)
                self._begun = bool(rest) and (self._begun or rest is not line)
                if not rest:
                    self._queue.popleft()
                    continue
                self._queue[0] = rest
            # poll() also reports a terminal that takes nothing.
            if not count:
                time.sleep(_REST_SECONDS)
            return


def _busy(_data: bytes) -> int:
    raise BlockingIOError


def _wait_for_reader(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(_POLL_SECONDS * 1000)


def _sender(fd: int) -> Callable[[bytes], int] | None:
    """Writes to `fd` without waiting, or raises BlockingIOError; None where only a blocking write is possible."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        # /dev/null in place of a closed descriptor: opened again through /proc, it would take every line.
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        # A file has no reader to wait for. It is not opened again: its offset is that of the other writers.
        return lambda data: os.write(fd, data)
    if stat.S_ISSOCK(kind):
        peer = socket.socket(fileno=os.dup(fd))
        return lambda data: peer.send(data, socket.MSG_DONTWAIT)
    if not os.get_blocking(fd):
        return lambda data: os.write(fd, data)
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    # Another user's pipe, a pipe without a reader, no /proc.
    except OSError:
        return None
    return lambda data: os.write(own, data)
