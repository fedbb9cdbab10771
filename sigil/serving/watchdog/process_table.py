"""Memory shared by the master and its workers: heartbeats, the holder of a store's write lock, counts, and what the
master knows for a scrape of any worker: the last reload, and the end of the certificate.

One word of 8 bytes has one writer, and is written by one store instruction, so no lock protects it: a process that
stops, or is killed, at any instruction leaves nothing locked.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

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


_MASTER_DROPPED, _RELOADED_AT, _RELOAD_FAILED, _CERTIFICATE_ENDS = range(len(Cause), len(Cause) + 4)
_USED, _BEAT, _WRITING, _DROPPED, _PEER_AT, _PEER_AHEAD, _PEER_CERTIFICATE_ENDS = range(7)
# Words are unsigned.
_ZERO_AHEAD = 1 << 63


class Peer(NamedTuple):
    """What the last answer of the server that the workers call showed: the milliseconds by which its clock is ahead of
    ours, and when its certificate ends (Unix seconds; None without TLS)."""

    ahead_ms: int
    certificate_ends: int | None


@dataclass(frozen=True)
class ProcessFigures:
    """Since the start of the master: restarts of workers by cause, and log lines dropped by all processes.

    `reloaded_at` (Unix seconds): the end of the last reload, at first the start. `certificate_ends`: the earliest end
    of the certificates that workers serve, None without TLS. `peer`: None before the first answer.
    """

    restarts: dict[str, int]
    lines_dropped: int
    reloaded_at: int
    reload_failed: bool
    certificate_ends: int | None
    peer: Peer | None


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
        self._words[_USED] = self._words[_BEAT] = self._words[_WRITING] = self._words[_PEER_AT] = 0

    def saw_peer(self, peer: Peer) -> None:
        self._words[_PEER_AHEAD] = _ZERO_AHEAD + peer.ahead_ms
        self._words[_PEER_CERTIFICATE_ENDS] = peer.certificate_ends or 0
        # Not the time of day: the newest answer counts also when the clock, which may be what is wrong, is set back.
        self._words[_PEER_AT] = time.monotonic_ns()

    @property
    def peer_seen_at(self) -> int:
        """Monotonic time in nanoseconds; 0 before the first answer."""
        return self._words[_PEER_AT]

    @property
    def peer(self) -> Peer:
        return Peer(self._words[_PEER_AHEAD] - _ZERO_AHEAD, self._words[_PEER_CERTIFICATE_ENDS] or None)

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
        table = cls(shared_memory.create("process-table", (1 + rows) * _WORDS_PER_ROW * _BYTES_PER_WORD), rows)
        table.record_reload(int(time.time()), failed=False)
        return table

    def free_row(self) -> int:
        return next(number for number, row in enumerate(self.rows) if row.free)

    def count_restart(self, cause: Cause) -> None:
        self._header[cause] += 1

    @property
    def master_dropped(self) -> Cell:
        return self._header[_MASTER_DROPPED : _MASTER_DROPPED + 1]

    def record_reload(self, now: int, *, failed: bool) -> None:
        self._header[_RELOADED_AT] = now
        self._header[_RELOAD_FAILED] = failed

    def serve_certificate_until(self, ends: int) -> None:
        """Unix seconds."""
        self._header[_CERTIFICATE_ENDS] = max(1, ends)

    def figures(self) -> ProcessFigures:
        newest = max(self.rows, key=lambda row: row.peer_seen_at)
        return ProcessFigures(
            restarts={cause.name.lower(): self._header[cause] for cause in Cause},
            lines_dropped=self._header[_MASTER_DROPPED] + sum(row.dropped[0] for row in self.rows),
            reloaded_at=self._header[_RELOADED_AT],
            reload_failed=bool(self._header[_RELOAD_FAILED]),
            certificate_ends=self._header[_CERTIFICATE_ENDS] or None,
            peer=newest.peer if newest.peer_seen_at else None,
        )

    def hung_writer(self, seconds: float) -> bool:
        """True when a worker that holds a store's write lock has not beaten for `seconds`."""
        oldest = time.monotonic_ns() - int(seconds * _NANO)
        return any(row.writing[0] and row.last_beat < oldest for row in self.rows)
