"""The session store of one host: an LMDB environment on tmpfs, shared by every worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from sigil.core.session_store import EndLogTail, Key, Kind, Rule, StoreFull, StoreUnusable, Usage
from sigil.store.chunks import Chunks
from sigil.store.codec import LAST_DUE, Change, Codec
from sigil.store.end_log import append, tail

T = TypeVar("T")

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
"""The two files that LMDB makes in the directory of an environment."""

_FULL = "the session store is full"
_RESERVED = b"reserved"
_IndexEntry = tuple[int, Any, int]
"""When a row is due, in which index that stands, and how much it has reserved."""
_NOWHERE: _IndexEntry = (0, None, 0)


class LmdbStore:
    """`SessionStore` over the environment in the directory `path`; open it once per process, never before a fork.

    `size` is the map in bytes, of which creations leave the share `reserve` free; `ends_kept` bounds the log of ends.
    Raises StoreUnusable when the environment cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int,
        kinds: Sequence[Kind],
        clock: Callable[[], float],
        reserve: float = 0.15,
        ends_kept: int = 65536,
        create: bool = True,
    ) -> None:
        if ends_kept < 1:
            raise ValueError("the log of ends keeps at least one id, since the last one holds the position")
        self._codec = Codec(kinds)
        self._counted = [kind.tag for kind in kinds if kind.counted]
        self._queues = frozenset(kind.tag for kind in kinds if kind.queue)
        self._reserving = frozenset(kind.tag for kind in kinds if kind.reserves)
        self._long = frozenset(kind.tag for kind in kinds if kind.long)
        self._clock = clock
        self._size = size
        self._filled = int((1 - reserve) * size)
        self._ends_kept = ends_kept
        self._file = path / DATA_FILE
        with _usable():
            self._open(path, create)

    def _open(self, path: Path, create: bool) -> None:
        # Nothing is flushed: the map is RAM, and it is to be gone with the host.
        self._env = lmdb.open(
            str(path),
            map_size=self._size,
            mode=0o600,
            writemap=True,
            sync=False,
            metasync=False,
            map_async=True,
            meminit=False,
            lock=True,
            create=create,
            max_dbs=5 + len(self._counted),
            max_readers=512,
            max_spare_txns=2,
        )
        try:
            self._rows = self._env.open_db(b"rows")
            self._due = self._env.open_db(b"due")
            # Open rows of a counted kind are due in an index of their own: its length is their number.
            self._open_due = {tag: self._env.open_db(b"due " + tag) for tag in self._counted}
            self._ends = self._env.open_db(b"ends")
            self._sums = self._env.open_db(b"sums")
            self._in_pieces = self._env.open_db(b"pieces")
            self._pieces = Chunks(self._in_pieces)
            self._page = self._env.stat()["psize"]
            self._inode = self._file.stat().st_ino
        except BaseException:
            # Whoever wipes a broken environment opens another at this path, in this process.
            self._env.close()
            raise

    async def get(self, key: Key) -> Any | None:
        raw = self._codec.raw(key)
        try:
            with self._env.begin(self._rows) as txn:
                value = self._value(txn, raw)
        except lmdb.Error as error:
            raise StoreUnusable(f"the session store cannot be read: {error}") from error
        return None if value is None else self._codec.row(raw, value)

    async def transact(self, keys: Sequence[Key], rule: Rule[T], *, creates: bool = False) -> T:
        raws = [self._codec.raw(key) for key in keys]
        try:
            with self._env.begin(write=True) as txn:
                if creates:
                    self._refuse_when_filled(txn)
                rows = [self._read(txn, raw) for raw in raws]
                decision = rule(self._clock(), tuple(rows))
                if decision.writes or decision.ended:
                    dues = {raw: self._place(raw, row) for raw, row in zip(raws, rows, strict=True)}
                    self._write(txn, self._codec.changes(decision), dues)
                    if decision.ended:
                        append(txn.cursor(self._ends), decision.ended, self._ends_kept)
        except lmdb.MapFullError:
            raise StoreFull(_FULL) from None
        except lmdb.Error as error:
            raise StoreUnusable(f"the session store cannot be written: {error}") from error
        return decision.result

    async def due(self, now: float, limit: int, queue: Kind | None = None) -> list[Key]:
        last = min(int(now), LAST_DUE)
        if last < 1 or limit < 1:
            return []
        bound = last.to_bytes(4, "big")
        with _usable(), self._env.begin() as txn:
            indices = self._unqueued() if queue is None else [self._open_due[queue.tag]]
            found = [entry for index in indices for entry in _first(txn.cursor(index), bound, limit)]
        return [self._codec.key(entry[4:]) for entry in sorted(found)[:limit]]

    async def ends(self, after: int | None) -> EndLogTail:
        with _usable(), self._env.begin(self._ends) as txn:
            return tail(txn.cursor(), after)

    def usage(self) -> Usage:
        with _usable(), self._env.begin() as txn:
            return Usage(self._live(txn), self._size, self._reserved(txn))

    def count(self, kind: Kind) -> int:
        with _usable(), self._env.begin() as txn:
            return int(txn.stat(self._open_due[kind.tag])["entries"])

    async def check(self) -> None:
        with _usable():
            # Files removed under a running server would leave each new worker with a store of its own.
            if self._file.stat().st_ino != self._inode:
                raise StoreUnusable("the files of the session store were replaced while it was in use")
            self._env.begin(write=True).abort()

    async def clean(self) -> None:
        with _usable():
            self._env.reader_check()

    def close(self) -> None:
        self._env.close()

    def _refuse_when_filled(self, txn: lmdb.Transaction) -> None:
        # The high-water mark is one call (0.65 µs) against three; only a store that was once filled has to be counted.
        if (self._env.info()["last_pgno"] + 1) * self._page > self._filled and self._live(txn) > self._filled:
            raise StoreFull(_FULL)

    def _live(self, txn: lmdb.Transaction) -> int:
        """Bytes of the pages in use: freed pages are used again, though the map never shrinks."""
        parts = (self._rows, self._in_pieces, self._ends, self._sums, *self._indices())
        stats = [txn.stat(part) for part in parts]
        return self._page * sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)

    def _read(self, txn: lmdb.Transaction, raw: bytes) -> Any | None:
        value = self._value(txn, raw)
        return None if value is None else self._codec.row(raw, value)

    def _value(self, txn: lmdb.Transaction, raw: bytes) -> bytes | None:
        value: bytes | None = txn.get(raw, db=self._rows)  # type: ignore[assignment]  # never a view: none is asked for
        return self._pieces.whole(txn, raw, value) if raw[:1] in self._long else value

    def _replace(self, txn: lmdb.Transaction, raw: bytes, value: bytes | None) -> bytes | None:
        before: bytes | None = txn.get(raw, db=self._rows)  # type: ignore[assignment]
        return self._pieces.replace(txn, raw, before, value)

    def _indices(self) -> list[Any]:
        return [self._due, *self._open_due.values()]

    def _unqueued(self) -> list[Any]:
        return [self._due, *(index for tag, index in self._open_due.items() if tag not in self._queues)]

    def _place(self, raw: bytes, row: Any | None) -> _IndexEntry:
        if row is None:
            return _NOWHERE
        opened = self._open_due.get(raw[:1])
        reserved = row.reserved if raw[:1] in self._reserving else 0
        return row.due, opened if opened is not None and row.open else self._due, reserved

    def _write(self, txn: lmdb.Transaction, changes: list[Change], dues: dict[bytes, _IndexEntry]) -> None:
        more = 0
        for raw, value, due, counted, reserved in changes:
            if raw not in dues:
                dues[raw] = self._place(raw, self._read(txn, raw))
            stored = value if raw[:1] not in self._long else self._replace(txn, raw, value)
            if stored is None:
                txn.delete(raw, db=self._rows)
            else:
                txn.put(raw, stored, db=self._rows)
            place = (due, self._open_due[raw[:1]] if counted else self._due, reserved)
            if place != dues[raw]:
                self._move(txn, raw, dues[raw], place)
                more += reserved - dues[raw][2]
                dues[raw] = place
        if more:
            txn.put(_RESERVED, (self._reserved(txn) + more).to_bytes(8, "big"), db=self._sums)

    def _reserved(self, txn: lmdb.Transaction) -> int:
        return int.from_bytes(txn.get(_RESERVED, b"", db=self._sums), "big")

    def _move(self, txn: lmdb.Transaction, raw: bytes, old: _IndexEntry, new: _IndexEntry) -> None:
        if old[:2] == new[:2]:
            return
        if old[0]:
            txn.delete(old[0].to_bytes(4, "big") + raw, db=old[1])
        if new[0]:
            txn.put(new[0].to_bytes(4, "big") + raw, b"", db=new[1])


def _first(cursor: lmdb.Cursor, bound: bytes, limit: int) -> Iterator[bytes]:
    for count, found in enumerate(cursor.iternext(values=False)):
        entry = bytes(found)
        if count == limit or entry[:4] > bound:
            return
        yield entry


@contextmanager
def _usable() -> Iterator[None]:
    """Errors of the environment as StoreUnusable; the hot calls spell it out, since a generator costs 1 µs."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise StoreUnusable(f"the session store cannot be used: {error}") from error
