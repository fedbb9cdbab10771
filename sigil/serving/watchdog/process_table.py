"""Memory shared by the master and its workers: heartbeats, the holder of a store's write lock, and counts.

One word of 8 bytes has one writer, and is written by one store instruction, so no lock protects it: a process that
stops, or is killed, at any instruction leaves nothing locked.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sigil.serving import shared_memory

_WORDS_PER_ROW = 8
_BYTES_PER_WORD = 8
_NANO = 1_000_000_000


class Cell(Protocol):
    """One word; index 0 is its value."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class Cause(IntEnum):
    """Why a worker was replaced without a reload; the value is its word in the header."""

    DIED = 0
    HUNG = 1
    NOT_READY = 2


_MASTER_DROPPED = len(Cause)
_USED, _BEAT, _WRITING, _DROPPED = range(4)


@dataclass(frozen=True)
class ProcessCounts:
    """Counts since the start of the master: restarts of workers by cause, and log lines dropped by all processes."""

    restarts: dict[str, int]
    lines_dropped: int


class Row:
    """The row of one worker process. Its count of dropped lines continues with the next worker in the same row."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        # Written around each write transaction of a store: a slice costs nothing there.
        self.writing: Cell = words[_WRITING : _WRITING + 1]
        self.dropped: Cell = words[_DROPPED : _DROPPED + 1]

    def take(self) -> None:
        """For a worker that starts next. It opens the store before its loop beats, so its start is the first beat."""
        self._words[_USED] = 1
        self.beat()

    def release(self) -> None:
        self._words[_USED] = self._words[_BEAT] = self._words[_WRITING] = 0

    def beat(self) -> None:
        # CLOCK_MONOTONIC is one clock for all processes of the host.
        self._words[_BEAT] = time.monotonic_ns()

    @property
    def last_beat(self) -> int:
        """Monotonic time in nanoseconds; 0 in a free row."""
        return self._words[_BEAT]

    @property
    def free(self) -> bool:
        return not self._words[_USED]


class ProcessTable:
    """A header, which the master writes, and `rows` rows, one per worker. Workers open it by `fd`."""

    def __init__(self, fd: int, rows: int) -> None:
        self.fd = fd
        size = (1 + rows) * _WORDS_PER_ROW * _BYTES_PER_WORD
        words = memoryview(mmap.mmap(fd, size)).cast("Q")
        self._header = words[:_WORDS_PER_ROW]
        self.rows = [Row(words[n * _WORDS_PER_ROW : (n + 1) * _WORDS_PER_ROW]) for n in range(1, rows + 1)]

    @classmethod
    def create(cls, rows: int) -> ProcessTable:
        return cls(shared_memory.create("process-table", (1 + rows) * _WORDS_PER_ROW * _BYTES_PER_WORD), rows)

    def free_row(self) -> int:
        return next(number for number, row in enumerate(self.rows) if row.free)

    def count_restart(self, cause: Cause) -> None:
        self._header[cause] += 1

    @property
    def master_dropped(self) -> Cell:
        return self._header[_MASTER_DROPPED : _MASTER_DROPPED + 1]

    def counts(self) -> ProcessCounts:
        dropped = self._header[_MASTER_DROPPED] + sum(row.dropped[0] for row in self.rows)
        return ProcessCounts({cause.name.lower(): self._header[cause] for cause in Cause}, dropped)

    def hung_writer(self, seconds: float) -> bool:
        """True when a worker that holds a store's write lock has not beaten for `seconds`."""
        oldest = time.monotonic_ns() - int(seconds * _NANO)
        return any(row.writing[0] and row.last_beat < oldest for row in self.rows)
