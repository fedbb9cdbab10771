"""Long rows in LMDB, in pieces: a value above half a page takes pages of its own, which have to lie side by side.

A request of 1000 members is 36 KB, nine pages in a row. A store that was full once, and whose rows were freed here and
there, may have no such place left though half of it is free, and would refuse a vote. A piece finds room in any page;
and of a row that changes in one place, such as a ballot, one piece is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lmdb

PIECE = 1900
"""Bytes: with its key just below half a page of 4 KiB."""
# The one byte that begins nothing in MessagePack: no row that was encoded begins like this.
_HEAD = b"\xc1"


class Chunks:
    """Those of all long rows, in one database of the environment. `raw` is the key of a row."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def whole(self, txn: lmdb.Transaction, raw: bytes, stored: bytes | None) -> bytes | None:
        """The value of a row under whose key this is stored."""
        if not _count(stored):
            return stored
        return b"".join(txn.get(name, b"", db=self._database) for name in _names(raw, 0, _count(stored)))

    def replace(self, txn: lmdb.Transaction, raw: bytes, stored: bytes | None, value: bytes | None) -> bytes | None:
        """What is to be stored under the key instead, None for nothing; pieces that stay the same are left alone."""
        pieces = [value[at : at + PIECE] for at in range(0, len(value), PIECE)] if value and len(value) > PIECE else []
        for name, piece in zip(_names(raw, 0, len(pieces)), pieces, strict=True):
            if txn.get(name, db=self._database) != piece:
                txn.put(name, piece, db=self._database)
        for name in _names(raw, len(pieces), _count(stored)):
            txn.delete(name, db=self._database)
        return _HEAD + len(pieces).to_bytes(2, "big") if pieces else value


def _count(stored: bytes | None) -> int:
    """How many pieces there are beside what is stored under the key of a row."""
    return int.from_bytes(stored[1:], "big") if stored is not None and stored.startswith(_HEAD) else 0


def _names(raw: bytes, start: int, stop: int) -> Iterator[bytes]:
    return (raw + number.to_bytes(2, "big") for number in range(start, stop))
