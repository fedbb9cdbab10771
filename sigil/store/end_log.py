"""The end log inside LMDB: 8-byte big-endian sequence to id; the oldest entries are dropped."""

from __future__ import annotations

import lmdb

from sigil.core.session_store import EndLogTail


def append(cursor: lmdb.Cursor, ended: tuple[bytes, ...], size: int) -> None:
    """Append ids, and keep the last `size` entries."""
    position = _position(cursor)
    for name in ended:
        position += 1
        cursor.put(_sequence(position), name)
    # Drop two for each one appended: an adopted log with a larger `size` shrinks without a long transaction.
    for _ in range(2 * len(ended)):
        if _oldest(cursor) > position - size:
            return
        cursor.delete()


def read_tail(cursor: lmdb.Cursor, after: int | None) -> EndLogTail:
    """The ids after a position; with None only the current position."""
    position = _position(cursor)
    if after is None or after == position:
        return EndLogTail(position, (), False)
    if after > position:
        # Such a position is from another store, before a wipe: nothing of this log was read.
        return EndLogTail(position, (), True)
    truncated = after + 1 < _oldest(cursor)
    cursor.set_range(_sequence(after + 1))
    return EndLogTail(position, tuple(bytes(name) for name in cursor.iternext(keys=False)), truncated)


def _position(cursor: lmdb.Cursor) -> int:
    """The last sequence. It survives the trimming, since the last entry is never dropped."""
    return int.from_bytes(cursor.key(), "big") if cursor.last() else 0


def _oldest(cursor: lmdb.Cursor) -> int:
    """The oldest sequence of a log that is not empty; the cursor is then at its entry."""
    cursor.first()
    return int.from_bytes(cursor.key(), "big")


def _sequence(position: int) -> bytes:
    return position.to_bytes(8, "big")
