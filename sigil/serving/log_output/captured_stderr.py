"""Standard error of a worker, as lines for the log of the master.

A panic, an abort or a traceback goes to standard error past the log, in many writes. Its reader may stall like that of
standard output, and is often the same: the worker would wait for it. The master always reads, and a dead worker's last
lines are still in the pipe.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

_STDERR = 2
_READ_BYTES = 65536
_LINE_BYTES = 2048
# The last line of a traceback: a message can quote the input, and the input can be a key.
_EXCEPTION = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Warning)): .*")


class CapturedStderr:
    """`fd` becomes readable when there are lines; `open` is False after the last process has closed the other end."""

    def __init__(self) -> None:
        self.fd, self._writing = os.pipe()
        os.set_blocking(self.fd, False)
        self._rest = b""
        self.open = True

    @contextlib.contextmanager
    def given_to_child(self) -> Iterator[None]:
        """A process that starts within gets the pipe as standard error. Main thread only, and once."""
        kept = -1
        try:
            kept = os.dup(_STDERR)
            os.dup2(self._writing, _STDERR)
            yield
        except BaseException:
            os.close(self.fd)
            raise
        finally:
            os.close(self._writing)
            if kept >= 0:
                os.dup2(kept, _STDERR)
                os.close(kept)

    def lines(self) -> list[str]:
        """The lines that came since the last call; it never waits."""
        try:
            data = os.read(self.fd, _READ_BYTES) if self.open else b""
        except BlockingIOError:
            return []
        self.open = bool(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        return [_cleaned(line) for line in whole if line.strip()]

    def close(self) -> list[str]:
        """The last lines, of a process that has ended."""
        lines = self.lines()
        os.close(self.fd)
        return [*lines, _cleaned(self._rest)] if self._rest else lines


def _cleaned(line: bytes) -> str:
    return _EXCEPTION.sub(r"\1", line[:_LINE_BYTES].decode("utf-8", "replace").rstrip())
