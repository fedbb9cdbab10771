"""Long rows in LMDB, in chunks: a value above half a page takes overflow pages, which must be contiguous.

A request of 1000 members has 36 KB, nine contiguous pages. A store that was full once is fragmented: it may have no
such run left although half of it is free, and would reject a vote. A chunk fits into any page. And if a row changes in
one place, such as a ballot, only one chunk is written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lmdb

CHUNK_BYTES = 1900
"""With its key, just below half a page of 4 KiB."""
# The one byte that MessagePack never uses: no encoded row begins with it.
_MARKER = b"\xc1"


class Chunks:
    """The chunks of all long rows, in one database of the environment. `raw` is the key of a row."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def read(self, txn: lmdb.Transaction, raw: bytes, stored: bytes | None) -> bytes | None:
        """The value of a row; `stored` is the value under its key."""
        if not _count(stored):
            return stored
        return b"".join(txn.get(name, b"", db=self._database) for name in _chunk_keys(raw, 0, _count(stored)))

    def replace(self, txn: lmdb.Transaction, raw: bytes, stored: bytes | None, value: bytes | None) -> bytes | None:
        """Write the chunks that changed. Returns the new value under the key of the row, None to delete it."""
        chunks = (
            [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)]
            if value and len(value) > CHUNK_BYTES
            else []
        )
        for name, chunk in zip(_chunk_keys(raw, 0, len(chunks)), chunks, strict=True):
            if txn.get(name, db=self._database) != chunk:
                txn.put(name, chunk, db=self._database)
        for name in _chunk_keys(raw, len(chunks), _count(stored)):
            txn.delete(name, db=self._database)
        return _MARKER + len(chunks).to_bytes(2, "big") if chunks else value


def _count(stored: bytes | None) -> int:
    """The number of chunks of a row; `stored` is the value under its key."""
    return int.from_bytes(stored[1:], "big") if stored is not None and stored.startswith(_MARKER) else 0


def _chunk_keys(raw: bytes, start: int, stop: int) -> Iterator[bytes]:
    return (raw + number.to_bytes(2, "big") for number in range(start, stop))
