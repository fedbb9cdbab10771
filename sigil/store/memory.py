"""The session store in memory: one process, for tests. It encodes its rows, so callers share no object with it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sigil.core.session_store import (
    CREATION_RESERVE,
    TALLY,
    EndLogTail,
    Key,
    Kind,
    Rule,
    Share,
    StoreFull,
    StoreUnusable,
    Tally,
    Usage,
)
from sigil.store.codec import Change, Codec, added, changes_of

T = TypeVar("T")

_NODE = 48
"""Bytes charged per row in addition to its key and value, about the cost of the indices of LMDB."""


class MemoryStore:
    """`SessionStore` in a dict, with the arguments of `LmdbStore`: also `clock` never runs backwards."""

    def __init__(
        self,
        *,
        kinds: Sequence[Kind],
        clock: Callable[[], float],
        size: int = 64 << 20,
        reserve: float = CREATION_RESERVE,
        end_log_size: int = 65536,
    ) -> None:
        if end_log_size < 1:
            raise ValueError("end_log_size must be at least 1")
        self._codec = Codec(kinds)
        self._queue_tags = frozenset(kind.tag for kind in kinds if kind.queue)
        self._has_tallies = TALLY in kinds
        self._clock = clock
        self._size = size
        self._creation_limit = int((1 - reserve) * size)
        self._rows: dict[bytes, Change] = {}
        self._tallies: dict[bytes, Tally] = {}
        self._end_log: deque[bytes] = deque(maxlen=end_log_size)
        self._position = 0
        self._used = 0
        self._closed = False
        self._queries = 0

    def now(self) -> float:
        return self._clock()

    async def get(self, key: Key) -> Any | None:
        return self.peek(key)

    def peek(self, key: Key) -> Any | None:
        raw = self._codec.raw(key)
        self._check_open()
        return self._read(raw)

    async def transact(self, keys: Sequence[Key], rule: Rule[T], *, creates: bool = False) -> T:
        raws = [self._codec.raw(key) for key in keys]
        self._check_open()
        if creates and self._used > self._creation_limit:
            raise StoreFull("the session store is full")
        decision = rule(self._clock(), tuple(self._read(raw) for raw in raws))
        self._write(self._codec.changes(decision))
        self._end_log.extend(decision.ended)
        self._position += len(decision.ended)
        return decision.result

    async def due(self, now: float, limit: int, queue: Kind | None = None) -> list[Key]:
        self._check_open()
        tags = {raw[:1] for raw in self._rows} - self._queue_tags if queue is None else {queue.tag}
        due = ((row.due, raw) for raw, row in self._rows.items() if raw[:1] in tags and 0 < row.due <= now)
        if queue is not None and queue.fair:
            return [self._codec.key(raw) for _, raw in self._in_turn(sorted(due), limit)]
        return [self._codec.key(raw) for _, raw in heapq.nsmallest(limit, due)]

    def head(self, queue: Kind, limit: int) -> list[Any]:
        self._check_open()
        waiting = ((row.due, raw) for raw, row in self._rows.items() if raw[:1] == queue.tag and row.due > 0)
        return [self._read(raw) for _, raw in self._in_turn(sorted(waiting), limit)]

    def names(self, kind: Kind, beginning: bytes, limit: int) -> list[bytes]:
        begin = self._codec.raw(Key(kind, beginning))
        self._check_open()
        return [raw[len(kind.tag) :] for raw in sorted(self._rows) if raw.startswith(begin)][:limit]

    def _in_turn(self, due: list[tuple[int, bytes]], limit: int) -> list[tuple[int, bytes]]:
        """`limit` of them, of the owners in turn. The order of the owners changes from query to query."""
        turns: dict[bytes, int] = {}
        places = []
        self._queries += 1
        for entry in due:
            owner = self._rows[entry[1]].owner
            turns[owner] = turns.get(owner, 0) + 1
            places.append((turns[owner], list(turns).index(owner) + self._queries, entry))
        owners = max(1, len(turns))
        places.sort(key=lambda place: (place[0], place[1] % owners))
        return sorted(entry for _, _, entry in places[:limit])

    async def read_end_log(self, after: int | None) -> EndLogTail:
        self._check_open()
        if after is None or after == self._position:
            return EndLogTail(self._position, (), False)
        dropped = self._position - len(self._end_log)
        truncated = after > self._position or after < dropped
        ids = tuple(self._end_log)[max(after - dropped, 0) :] if after < self._position else ()
        return EndLogTail(self._position, ids, truncated)

    def usage(self) -> Usage:
        self._check_open()
        return Usage(self._used, self._size, sum(row.reserved for row in self._rows.values()))

    def count(self, kind: Kind) -> int:
        self._check_open()
        return sum(row.counted and row.due > 0 and raw[:1] == kind.tag for raw, row in self._rows.items())

    async def check(self) -> None:
        self._check_open()

    async def clean(self) -> None:
        self._check_open()

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnusable("the session store is closed")

    def _read(self, raw: bytes) -> Any | None:
        if raw[:1] == TALLY.tag and self._has_tallies:
            return self._tallies.get(raw[1:])
        row = self._rows.get(raw)
        return None if row is None or row.value is None else self._codec.row(raw, row.value)

    def _write(self, changes: list[Change]) -> None:
        last = {change.raw: change for change in changes}
        used = self._used + sum(_cost(row) - _cost(self._rows.get(raw)) for raw, row in last.items())
        if used > self._size:
            raise StoreFull("the session store is full")
        for raw, row in last.items():
            self._tally(self._rows[raw].share if raw in self._rows else None, row.share)
        for raw, row in last.items():
            if row.value is None:
                self._rows.pop(raw, None)
            else:
                self._rows[raw] = row
        self._used = used

    def _tally(self, before: Share | None, after: Share | None) -> None:
        for change in changes_of(before, after) if before != after else ():
            tally = added(self._tallies.pop(change[0], None), change)
            if tally is not None:
                self._tallies[change[0]] = tally


def _cost(row: Change | None) -> int:
    return 0 if row is None or row.value is None else _NODE + len(row.raw) + len(row.value)
