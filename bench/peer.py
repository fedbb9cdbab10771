"""A second worker process on the same store, which runs a task at the same time as the first.

Run as `python -m bench.peer PATH TASK COUNT`: prints `prepared`, runs the task after a line of input, prints `done`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

from bench.store_tasks import TASKS, Task, open_store

_ROOT = Path(__file__).parent.parent


class Peer:
    """A task for two processes, this one with `own`: `run` ends when both processes have finished."""

    def __init__(self, path: Path, task: str, count: int, own: Task) -> None:
        self._own = own
        command = [sys.executable, "-m", "bench.peer", str(path), task, str(count)]
        self._process = subprocess.Popen(  # noqa: S603
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def prepare(self) -> None:
        self._own.prepare()
        self._expect(b"prepared\n")

    def run(self) -> None:
        self._pipe(self._process.stdin).write(b"go\n")
        self._own.run()
        self._expect(b"done\n")

    def _expect(self, expected: bytes) -> None:
        line = self._pipe(self._process.stdout).readline()
        if line != expected:
            raise RuntimeError(f"the other process printed {line!r} instead of {expected!r}")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise RuntimeError("the other process has no pipes")
        return pipe

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _main(path: Path, name: str, count: int) -> None:
    task: Task = TASKS[name](open_store(path), count)
    while True:
        task.prepare()
        sys.stdout.buffer.write(b"prepared\n")
        sys.stdout.buffer.flush()
        if not sys.stdin.buffer.readline():
            return
        task.run()
        sys.stdout.buffer.write(b"done\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
