"""The log of ends inside LMDB: 8-byte big-endian sequence to id, the oldest dropped when it grows too long."""

from __future__ import annotations

import lmdb

from sigil.core.session_store import EndLogTail


def append(cursor: lmdb.Cursor, ended: tuple[bytes, ...], kept: int) -> None:
    """Append ids and keep the last `kept` of the log."""
    position = _position(cursor)
    for name in ended:
        position += 1
        cursor.put(_sequence(position), name)
    # Two for each one appended: a log adopted from a larger `kept` shrinks without a long transaction.
    for _ in range(2 * len(ended)):
        if _first(cursor) > position - kept:
            return
        cursor.delete()


def tail(cursor: lmdb.Cursor, after: int | None) -> EndLogTail:
    """What stands after a position; None asks for the present position alone."""
    position = _position(cursor)
    if after is None or after == position:
        return EndLogTail(position, (), False)
    if after > position:
        # Such a position is from another store, before a wipe: whoever has it knows nothing of this one.
        return EndLogTail(position, (), True)
    lost = after + 1 < _first(cursor)
    cursor.set_range(_sequence(after + 1))
    return EndLogTail(position, tuple(bytes(name) for name in cursor.iternext(keys=False)), lost)


def _position(cursor: lmdb.Cursor) -> int:
    """The last sequence: it survives trimming, because the last entry is never dropped."""
    return int.from_bytes(cursor.key(), "big") if cursor.last() else 0


def _first(cursor: lmdb.Cursor) -> int:
    """The oldest sequence, on whose entry the cursor stands afterwards; the log is not empty."""
    cursor.first()
    return int.from_bytes(cursor.key(), "big")


def _sequence(position: int) -> bytes:
    return position.to_bytes(8, "big")
