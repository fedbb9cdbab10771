"""Reads files that may be anything: a pipe, a device, a directory, a file on a mount that hangs. Waits are bounded."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sigil.serving.bounded.calls import Call

T = TypeVar("T")

MAX_BYTES = 64 * 1024
MOUNT_SECONDS = 10.0
# O_NONBLOCK: a pipe whose other end no program has opened would make `open` wait for ever.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
PIPE_SECONDS = 60.0
"""Of a shell's <(gpg -d …), which may prompt for a passphrase."""
RELOAD_PIPE_SECONDS = 10.0
"""At SIGHUP, when that shell's command has ended long ago."""
# Calls that have not returned yet, by what they do: a path that hangs holds one thread, however often it is read.
_unfinished: dict[tuple[str, Path], Call[Any]] = {}


class Content(NamedTuple):
    mode: int
    data: bytes


class _Opened(NamedTuple):
    fd: int
    mode: int
    data: bytes | None


def read(path: Path, limit: int = MAX_BYTES, pipe_seconds: float = PIPE_SECONDS) -> Content:
    """The permissions and at most `limit` + 1 bytes; OSError."""
    opened = within_mount_time("read", path, lambda: _open(path, limit), lambda late: os.close(late.fd))
    try:
        data = _read_pipe(opened.fd, path, limit, pipe_seconds) if opened.data is None else opened.data
        return Content(stat.S_IMODE(opened.mode), data)
    finally:
        os.close(opened.fd)


def status(path: Path) -> os.stat_result:
    """Of a file that this user can open; OSError."""

    def opened() -> os.stat_result:
        fd = os.open(path, _FLAGS)
        try:
            found = os.fstat(fd)
            _reject_directory(found.st_mode, path)
            return found
        finally:
            os.close(fd)

    return within_mount_time("status", path, opened)


def within_mount_time(
    what: str, path: Path, function: Callable[[], T], drop: Callable[[T], object] = lambda late: None
) -> T:
    """`function`, a call about `path` that `what` names; TimeoutError when its file system does not respond.

    `drop` gets the result that comes too late.
    """
    name = what, path
    unfinished = _unfinished.get(name)
    if unfinished is None or unfinished.wait(MOUNT_SECONDS):
        _unfinished.pop(name, None)
        call = Call(function)
        if call.wait(MOUNT_SECONDS):
            return call.result()
        call.abandon(drop)
        _unfinished[name] = call
    text = f"its file system has not responded for {MOUNT_SECONDS:.0f} s: check that mount, or use a local file"
    raise TimeoutError(errno.ETIMEDOUT, text, str(path))


def _open(path: Path, limit: int) -> _Opened:
    fd = os.open(path, _FLAGS)
    try:
        mode = os.fstat(fd).st_mode
        _reject_directory(mode, path)
        if not stat.S_ISREG(mode):
            return _Opened(fd, mode, None)
        data = b""
        while len(data) <= limit and (part := os.read(fd, limit + 1 - len(data))):
            data += part
        return _Opened(fd, mode, data)
    except BaseException:
        os.close(fd)
        raise


def _reject_directory(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _read_pipe(fd: int, path: Path, limit: int, seconds: float) -> bytes:
    data, deadline = b"", time.monotonic() + seconds
    while len(data) <= limit:
        if not select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise TimeoutError(errno.ETIMEDOUT, f"a pipe without data for {seconds:.0f} s: use a file", str(path))
        try:
            part = os.read(fd, limit + 1 - len(data))
        except BlockingIOError:
            continue
        if not part:
            break
        data += part
    return data
