"""The session store of one host: an LMDB environment on tmpfs, shared by every worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lmdb

from sigil.core.session_store import (
    CREATION_RESERVE,
    OWNER_BYTES,
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
from sigil.store.chunks import Chunks
from sigil.store.codec import LAST_DUE, Change, Codec, added, changes_of
from sigil.store.end_log import append, read_tail
from sigil.store.fair_queries import FairQueries

T = TypeVar("T")

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
"""The two files that LMDB creates in the directory of an environment."""

_FULL = "the session store is full"
_RESERVED = b"reserved"
_NEVER = b"\xff" * 4
_IndexEntry = tuple[int, Any, int, Share | None, bytes]
"""Due time of a row, the index that holds it, the bytes reserved, its share of a tally, and the begin of its index key:
the owner in a fair queue."""
_NOT_INDEXED: _IndexEntry = (0, None, 0, None, b"")


class WriteFlag(Protocol):
    """Its index 0 is 1 while this process holds the write lock, else 0."""

    def __setitem__(self, index: int, value: int, /) -> None: ...


class LmdbStore:
    """`SessionStore` over the environment in the directory `path`. Open it once per process, never before a fork.

    `clock` never runs backwards. `size` is the map in bytes, of which creations leave the share `reserve` free;
    `end_log_size` is the number of ids in the end log. LMDB does not disclose which process holds the write lock:
    `writing` shows it to other processes.
    StoreUnusable: the environment cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int,
        kinds: Sequence[Kind],
        clock: Callable[[], float],
        reserve: float = CREATION_RESERVE,
        end_log_size: int = 65536,
        create: bool = True,
        writing: WriteFlag | None = None,
    ) -> None:
        if end_log_size < 1:
            raise ValueError("end_log_size must be at least 1: the last entry holds the position")
        self._codec = Codec(kinds)
        self._counted_tags = [kind.tag for kind in kinds if kind.counted]
        self._queue_tags = frozenset(kind.tag for kind in kinds if kind.queue)
        self._reserving_tags = frozenset(kind.tag for kind in kinds if kind.reserves)
        self._fair_queues = {kind.tag: FairQueries() for kind in kinds if kind.fair}
        self._heads = {kind.tag: FairQueries() for kind in kinds if kind.fair}
        self._tallied_tags = frozenset(kind.tag for kind in kinds if kind.tallied)
        self._long_tags = frozenset(kind.tag for kind in kinds if kind.long)
        self._clock = clock
        self._size = size
        self._creation_limit = int((1 - reserve) * size)
        self._end_log_size = end_log_size
        self._writing: WriteFlag = [0] if writing is None else writing
        self._file = path / DATA_FILE
        with _store_errors():
            self._open(path, create)

    def _open(self, path: Path, create: bool) -> None:
        # Nothing is flushed: the map is in RAM, and must not survive the host.
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
            max_dbs=5 + len(self._counted_tags),
            max_readers=512,
            max_spare_txns=2,
        )
        try:
            self._rows = self._env.open_db(b"rows")
            self._due = self._env.open_db(b"due")
            # Open rows of a counted kind have their own index of due times: its length is their number.
            self._open_due = {tag: self._env.open_db(b"due " + tag) for tag in self._counted_tags}
            self._end_log = self._env.open_db(b"ends")
            self._sums = self._env.open_db(b"sums")
            self._chunk_rows = self._env.open_db(b"pieces")
            self._chunks = Chunks(self._chunk_rows)
            self._page = self._env.stat()["psize"]
            self._inode = self._file.stat().st_ino
        except BaseException:
            # After the wipe of a broken environment, the same process opens a new one at this path.
            self._env.close()
            raise

    def now(self) -> float:
        return self._clock()

    async def get(self, key: Key) -> Any | None:
        return self.peek(key)

    def peek(self, key: Key) -> Any | None:
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
                self._writing[0] = 1
                if creates:
                    self._check_reserve(txn)
                rows = [self._read(txn, raw) for raw in raws]
                decision = rule(self._clock(), tuple(rows))
                if decision.writes or decision.ended:
                    before = {raw: self._index_entry(raw, row) for raw, row in zip(raws, rows, strict=True)}
                    if tallied := self._write(txn, self._codec.changes(decision), before):
                        self._write_tallies(txn, tallied, raws, rows)
                    if decision.ended:
                        append(txn.cursor(self._end_log), decision.ended, self._end_log_size)
        except lmdb.MapFullError:
            raise StoreFull(_FULL) from None
        except lmdb.Error as error:
            raise StoreUnusable(f"the session store cannot be written: {error}") from error
        finally:
            self._writing[0] = 0
        return decision.result

    async def due(self, now: float, limit: int, queue: Kind | None = None) -> list[Key]:
        last = min(int(now), LAST_DUE)
        if last < 1 or limit < 1:
            return []
        bound = last.to_bytes(4, "big")
        with _store_errors(), self._env.begin() as txn:
            if queue is not None and queue.fair:
                entries = self._fair_queues[queue.tag].entries(txn.cursor(self._open_due[queue.tag]), bound, limit)
                return [self._codec.key(entry[OWNER_BYTES + 4 :]) for entry in entries]
            indices = self._unqueued() if queue is None else [self._open_due[queue.tag]]
            found = [entry for index in indices for entry in _entries_until(txn.cursor(index), bound, limit)]
        return [self._codec.key(entry[4:]) for entry in sorted(found)[:limit]]

    def head(self, queue: Kind, limit: int) -> list[Any]:
        with _store_errors(), self._env.begin() as txn:
            cursor = txn.cursor(self._open_due[queue.tag])
            entries = self._heads[queue.tag].entries(cursor, _NEVER, limit)
            rows = [self._read(txn, entry[OWNER_BYTES + 4 :]) for entry in entries]
        return [row for row in rows if row is not None]

    def names(self, kind: Kind, beginning: bytes, limit: int) -> list[bytes]:
        begin, found = self._codec.raw(Key(kind, beginning)), list[bytes]()
        with _store_errors(), self._env.begin() as txn:
            cursor = txn.cursor(self._rows)
            more = cursor.set_range(begin)
            while more and len(found) < limit and (raw := bytes(cursor.key())).startswith(begin):
                found.append(raw[len(kind.tag) :])
                more = cursor.next()
        return found

    async def read_end_log(self, after: int | None) -> EndLogTail:
        with _store_errors(), self._env.begin(self._end_log) as txn:
            return read_tail(txn.cursor(), after)

    def usage(self) -> Usage:
        with _store_errors(), self._env.begin() as txn:
            return Usage(self._used_bytes(txn), self._size, self._reserved(txn))

    def count(self, kind: Kind) -> int:
        with _store_errors(), self._env.begin() as txn:
            return int(txn.stat(self._open_due[kind.tag])["entries"])

    async def check(self) -> None:
        with _store_errors():
            # If the files are removed under a running server, each new worker gets a separate store.
            if self._file.stat().st_ino != self._inode:
                raise StoreUnusable("the files of the session store were replaced while it was in use")
            # Never the write lock: a hung holder would make /health of every worker hang.
            with self._env.begin() as txn:
                txn.stat(self._rows)

    async def clean(self) -> None:
        with _store_errors():
            self._env.reader_check()

    def close(self) -> None:
        self._env.close()

    def _check_reserve(self, txn: lmdb.Transaction) -> None:
        # The high-water mark is one call (0.65 µs) instead of three; only a store that was full once needs a count.
        limit = self._creation_limit
        if (self._env.info()["last_pgno"] + 1) * self._page > limit and self._used_bytes(txn) > limit:
            raise StoreFull(_FULL)

    def _used_bytes(self, txn: lmdb.Transaction) -> int:
        """Bytes of the pages in use: freed pages are reused, though the map never shrinks."""
        parts = (self._rows, self._chunk_rows, self._end_log, self._sums, *self._indices())
        stats = [txn.stat(part) for part in parts]
        return self._page * sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)

    def _read(self, txn: lmdb.Transaction, raw: bytes) -> Any | None:
        value = self._value(txn, raw)
        return None if value is None else self._codec.row(raw, value)

    def _value(self, txn: lmdb.Transaction, raw: bytes) -> bytes | None:
        value: bytes | None = txn.get(raw, db=self._rows)  # type: ignore[assignment]  # never a view: buffers are off
        return self._chunks.read(txn, raw, value) if raw[:1] in self._long_tags else value

    def _replace(self, txn: lmdb.Transaction, raw: bytes, value: bytes | None) -> bytes | None:
        before: bytes | None = txn.get(raw, db=self._rows)  # type: ignore[assignment]
        return self._chunks.replace(txn, raw, before, value)

    def _indices(self) -> list[Any]:
        return [self._due, *self._open_due.values()]

    def _unqueued(self) -> list[Any]:
        return [self._due, *(index for tag, index in self._open_due.items() if tag not in self._queue_tags)]

    def _index_entry(self, raw: bytes, row: Any | None) -> _IndexEntry:
        if row is None:
            return _NOT_INDEXED
        opened = self._open_due.get(raw[:1])
        reserved = row.reserved if raw[:1] in self._reserving_tags else 0
        share = row.share if raw[:1] in self._tallied_tags else None
        owner = row.owner if raw[:1] in self._fair_queues else b""
        return row.due, opened if opened is not None and row.open else self._due, reserved, share, owner

    def _write(self, txn: lmdb.Transaction, changes: list[Change], before: dict[bytes, _IndexEntry]) -> list[Share]:
        """Returns what the writes change in tallies."""
        reserved_change = 0
        tallied: list[Share] = []
        for raw, value, due, counted, reserved, share, owner in changes:
            if raw not in before:
                before[raw] = self._index_entry(raw, self._read(txn, raw))
            stored = value if raw[:1] not in self._long_tags else self._replace(txn, raw, value)
            if stored is None:
                txn.delete(raw, db=self._rows)
            else:
                txn.put(raw, stored, db=self._rows)
            entry = (due, self._open_due[raw[:1]] if counted else self._due, reserved, share, owner)
            known = before[raw]
            if entry != known:
                self._reindex(txn, raw, known, entry)
                reserved_change += reserved - known[2]
                if share != known[3]:
                    tallied += changes_of(known[3], share)
                before[raw] = entry
        if reserved_change:
            txn.put(_RESERVED, (self._reserved(txn) + reserved_change).to_bytes(8, "big"), db=self._sums)
        return tallied

    def _write_tallies(
        self, txn: lmdb.Transaction, changes: list[Share], raws: list[bytes], rows: list[Any | None]
    ) -> None:
        """A sweep changes many rows of few owners: one write for each owner. `rows` are those that the rule read."""
        tallies: dict[bytes, Tally | None] = {}
        for change in changes:
            owner = change[0]
            if owner not in tallies:
                raw = TALLY.tag + owner
                tallies[owner] = rows[raws.index(raw)] if raw in raws else self._read(txn, raw)
            tallies[owner] = added(tallies[owner], change)
        for owner, tally in tallies.items():
            if tally is None:
                txn.delete(TALLY.tag + owner, db=self._rows)
            else:
                txn.put(TALLY.tag + owner, self._codec.encoded(tally), db=self._rows)

    def _reserved(self, txn: lmdb.Transaction) -> int:
        return int.from_bytes(txn.get(_RESERVED, b"", db=self._sums), "big")

    def _reindex(self, txn: lmdb.Transaction, raw: bytes, old: _IndexEntry, new: _IndexEntry) -> None:
        if old[:2] == new[:2] and old[4] == new[4]:
            return
        if old[0]:
            txn.delete(old[4] + old[0].to_bytes(4, "big") + raw, db=old[1])
        if new[0]:
            txn.put(new[4] + new[0].to_bytes(4, "big") + raw, b"", db=new[1])


def _entries_until(cursor: lmdb.Cursor, bound: bytes, limit: int) -> Iterator[bytes]:
    for count, found in enumerate(cursor.iternext(values=False)):
        entry = bytes(found)
        if count == limit or entry[:4] > bound:
            return
        yield entry


@contextmanager
def _store_errors() -> Iterator[None]:
    """Errors of the environment as StoreUnusable. The hot calls repeat it inline: a generator costs 1 µs."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise StoreUnusable(f"the session store cannot be used: {error}") from error
