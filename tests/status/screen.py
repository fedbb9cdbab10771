"""`sigil top` on a terminal of its own, and a screen that shows what it wrote."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from tests.support.live import DEADLINE

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
_FRAME = "\x1b[H"
_IN_FRONT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes its input the terminal of its session, so that Ctrl-C is a signal."""
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen:
    """`arguments` of `sigil top` on a terminal of this size; `environ` is all that it gets."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *arguments: str,
        columns: int = 100,
        lines: int = 40,
        without_input: bool = False,
    ) -> None:
        self._controller, self._terminal = os.openpty()
        self.written = b""
        self.before = termios.tcgetattr(self._terminal)
        self._size(columns, lines)
        command = [sys.executable, "-m", "sigil", "top", "--interval", "1", *arguments]
        self.process = subprocess.Popen(
            command if without_input else [sys.executable, "-c", _IN_FRONT, *command],
            stdin=subprocess.DEVNULL if without_input else self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **environ},
            start_new_session=True,
        )

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._controller)
        os.close(self._terminal)

    def press(self, key: str) -> None:
        os.write(self._controller, key.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def read(self) -> None:
        while select.select([self._controller], [], [], 0.05)[0]:
            self.written += os.read(self._controller, 1 << 16)

    def rows(self) -> list[str]:
        """The last frame that is complete."""
        frames = self.written.decode(errors="replace").split(_FRAME)[1:]
        shown = [frame for frame in frames if "\n" in frame] or [""]
        return _SEQUENCE.sub("", shown[-1]).replace("\r", "").rstrip("\n").split("\n")

    def wait(self, condition: Callable[[str], bool], what: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while not condition(text := "\n".join(self.rows())):
            assert time.monotonic() < deadline, f"waited for {what}:\n{text}"
            assert self.process.poll() is None, self.written.decode(errors="replace")
            self.read()
        return text

    def ended(self) -> int:
        """The exit code; the terminal is as before."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, "it does not end"
        self.read()
        code: int = self.process.returncode
        return code

    def is_restored(self) -> bool:
        """The screen, the cursor and the settings of the terminal are those from before."""
        entered, left = self.written.rfind(ENTER), self.written.rfind(LEAVE)
        return entered < left and SHOW_CURSOR in self.written[entered:] and self.is_as_before()

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._terminal) == self.before

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
