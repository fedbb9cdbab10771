"""Queries for the due rows of a fair queue in LMDB, whose index keys are the owner, the due second and the row's key.

A query jumps from owner to owner and reads nothing else of their queues: its work is bounded by its limit and by the
number of owners with rows, of which each takes 0.7 µs although none of its rows is due.
"""

from __future__ import annotations

import lmdb

from sigil.core.session_store import OWNER_BYTES

_HEAD = OWNER_BYTES + 4
# Greater than the due second and the first byte of any row's key.
_AFTER = b"\xff" * 5


class FairQueries:
    """Those of one process: each begins with the owner after the last one of the query before."""

    def __init__(self) -> None:
        self._last = b""

    def entries(self, cursor: lmdb.Cursor, bound: bytes, limit: int) -> list[bytes]:
        """At most `limit` index keys that are due at `bound`, the longest due first."""
        owners = self._due_owners(cursor, bound, limit)
        if owners:
            self._last = owners[-1]
        found: list[bytes] = []
        # Where the reading of an owner's queue goes on. An owner with fewer due rows than its part leaves the rest.
        starts = {owner: owner for owner in owners}
        while starts and len(found) < limit:
            part = max(1, (limit - len(found)) // len(starts))
            for owner, start in list(starts.items()):
                entries = _due_entries(cursor, start, owner + bound, min(part, limit - len(found)))
                found += entries
                if len(entries) < part:
                    del starts[owner]
                else:
                    starts[owner] = entries[-1] + b"\0"
        return sorted(found, key=lambda entry: entry[OWNER_BYTES:])

    def _due_owners(self, cursor: lmdb.Cursor, bound: bytes, limit: int) -> list[bytes]:
        """At most `limit` owners with due rows, in turn."""
        owners: list[bytes] = []
        wrapped, at = False, self._last + _AFTER if self._last else b""
        while len(owners) < limit:
            if cursor.set_range(at):
                entry = bytes(cursor.key())
                if wrapped and entry[:OWNER_BYTES] > self._last:
                    break
                if entry[OWNER_BYTES:_HEAD] <= bound:
                    owners.append(entry[:OWNER_BYTES])
                at = entry[:OWNER_BYTES] + _AFTER
            elif wrapped or not self._last:
                break
            else:
                wrapped, at = True, b"\0"
        return owners


def _due_entries(cursor: lmdb.Cursor, start: bytes, bound: bytes, limit: int) -> list[bytes]:
    """At most `limit` entries of one owner from `start` on; `bound`: its id and the last due second."""
    entries: list[bytes] = []
    if not cursor.set_range(start):
        return entries
    for found in cursor.iternext(values=False):
        entry = bytes(found)
        if len(entries) == limit or entry[:_HEAD] > bound:
            break
        entries.append(entry)
    return entries
