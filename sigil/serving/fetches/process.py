"""A running fetch: the process of `fetch.py`, whose pipe the master reads without blocking."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_PROGRAM = Path(__file__).with_name("fetch.py")
# Not the whole environment: where it could not be cleared of secrets, this process would inherit them.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "RES_OPTIONS", "LOCALDOMAIN")
_MAX_HEAD = 2048
# The most that a process without privileges may set. The master reads once a second: 64 KiB a second would be too slow.
_PIPE_BYTES = 1 << 20


class FetchFailed(Exception):
    """The text is the reason, in words of this project."""


class Fetched(NamedTuple):
    """A body for each address; none if nothing changed since the ETag."""

    bodies: tuple[bytes, ...]
    etag: str

    @property
    def unchanged(self) -> bool:
        return not self.bodies


class FetchProcess:
    """Fetches `urls`, each of at most `max_bytes`. It ends itself after `seconds`, and is killed after a third more.

    OSError when the process cannot be started.
    """

    def __init__(self, urls: Sequence[str], *, max_bytes: int, seconds: int, now: float, etag: str = "") -> None:
        # Neither the working directory nor PYTHON… variables (-I) nor site-packages (-S) have a part in this program.
        command = [sys.executable, "-IS", str(_PROGRAM), str(max_bytes), str(seconds), etag, *urls]
        environ = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._max = len(urls) * max_bytes + _MAX_HEAD
        self._answer = bytearray()
        self._kill_at = now + seconds * 4 / 3
        self._pipe, write = os.pipe()
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            # Ctrl-C in a terminal is for the master: hence the session.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write)
        os.set_blocking(self._pipe, False)

    def ended(self, now: float) -> bool:
        """Reads what there is; never blocks."""
        ended = self._process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while len(self._answer) <= self._max and (part := os.read(self._pipe, 65_536)):
                self._answer += part
        return ended or now >= self._kill_at

    def result(self) -> Fetched:
        """After the end; FetchFailed."""
        status = self._process.returncode
        if status not in {None, 0, -signal.SIGALRM}:
            ended = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise FetchFailed(f"the process of the fetch ended with {ended}")
        try:
            end = self._answer.index(b"\n")
            head = json.loads(self._answer[:end])
            if "error" in head:
                raise FetchFailed(str(head["error"])[:200])
            if head.get("unchanged"):
                return Fetched((), "")
            bodies, at = [], end + 1
            for length in head["lengths"]:
                bodies.append(bytes(self._answer[at : at + length]))
                at += length
            if at != len(self._answer):
                raise ValueError
            return Fetched(tuple(bodies), str(head["etag"]))
        # The process was ended, and wrote nothing or a part.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise FetchFailed("no answer in time") from None

    def close(self) -> None:
        self._process.kill()
        # A process that hangs in the kernel outlives the signal; Python reaps it later.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        os.close(self._pipe)
