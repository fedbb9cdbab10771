"""What all session stores share: the limits of a decision, and the encoding of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from sigil.core.session_store import TALLY, Decision, Key, Kind, Share, StoreUnusable, Tally

MAX_NAME = 64
"""Bytes in the name of a row, and in an id of the end log."""
MAX_WRITES = 200
"""Writes, and ended ids, in one decision: a transaction holds the write lock of the whole host."""
MAX_ROW = 1 << 20
"""Bytes of an encoded row."""
LAST_DUE = (1 << 32) - 1


class Change(NamedTuple):
    """A checked and encoded write; `value` None deletes. `counted`: an open row of a counted kind.

    `reserved`: bytes that a row of a kind with `reserves` keeps free. `share`: what it adds to the tally of its owner.
    `owner`: that of a row in a fair queue.
    """

    raw: bytes
    value: bytes | None
    due: int
    counted: bool = False
    reserved: int = 0
    share: Share | None = None
    owner: bytes = b""


def changes_of(before: Share | None, after: Share | None) -> list[Share]:
    """What the write of one row adds to the tallies of its owner before and after it, who may differ."""
    if before is not None and after is not None and before[0] == after[0]:
        _, pending, events, charged, enrolments = before
        return [(after[0], after[1] - pending, after[2] - events, after[3] - charged, after[4] - enrolments)]
    changes = [after] if after is not None else []
    return changes if before is None else [(before[0], -before[1], -before[2], -before[3], -before[4]), *changes]


def added(tally: Tally | None, change: Share) -> Tally | None:
    """The tally after a change; None when its owner has no rows any more."""
    _, pending, events, charged, enrolments = change
    if tally is not None:
        pending, events = pending + tally.pending, events + tally.events
        charged, enrolments = charged + tally.charged, enrolments + tally.enrolments
    return Tally(pending, events, charged, enrolments) if pending or events or charged or enrolments else None


class Codec:
    """Rows to bytes and back. ValueError or TypeError for keys and rows that may not be stored."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = {kind.tag: kind for kind in kinds}
        if len(self._kinds) != len(kinds) or any(len(tag) != 1 for tag in self._kinds):
            raise ValueError("every kind needs its own tag of one byte")
        if any(kind.tallied for kind in kinds) and TALLY not in kinds:
            raise ValueError("a store with tallied kinds also needs the kind TALLY")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = {kind.tag: msgspec.msgpack.Decoder(kind.type).decode for kind in kinds}

    def raw(self, key: Key) -> bytes:
        """The checked bytes of a key."""
        kind, name = key
        if self._kinds.get(kind.tag) != kind:
            raise ValueError(f"this store was not opened with kind {kind.tag!r} of {kind.type.__name__}")
        if len(name) > MAX_NAME:
            raise ValueError(f"a row name has {len(name)} bytes, at most {MAX_NAME} are allowed")
        return kind.tag + name

    def encoded(self, row: Any) -> bytes:
        return self._encode(row)

    def key(self, raw: bytes) -> Key:
        """The key of `raw`. StoreUnusable: a kind that this store does not know."""
        kind = self._kinds.get(raw[:1])
        if kind is None:
            raise StoreUnusable(f"the store holds a row of the unknown kind {raw[:1]!r}")
        return Key(kind, raw[1:])

    def row(self, raw: bytes, value: bytes | memoryview) -> Any:
        """The row that `value` encodes. StoreUnusable: not a row of its kind."""
        try:
            return self._decode[raw[:1]](value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreUnusable(f"a row of kind {raw[:1]!r} cannot be read: {error}") from error

    def changes(self, decision: Decision[Any]) -> list[Change]:
        """The writes of a decision in their order, checked."""
        if len(decision.writes) > MAX_WRITES or len(decision.ended) > MAX_WRITES:
            raise ValueError(
                f"a decision has {len(decision.writes)} writes and {len(decision.ended)} ends, "
                f"at most {MAX_WRITES} of each are allowed"
            )
        for name in decision.ended:
            if not 0 < len(name) <= MAX_NAME:
                raise ValueError(f"an ended id has {len(name)} bytes, 1 to {MAX_NAME} are allowed")
        return [self._change(key, row) for key, row in decision.writes]

    def _change(self, key: Key, row: Any | None) -> Change:
        raw = self.raw(key)
        if row is None:
            return Change(raw, None, 0)
        if not isinstance(row, key.kind.type):
            raise TypeError(f"kind {key.kind.tag!r} holds {key.kind.type.__name__}, not {type(row).__name__}")
        value = self._encode(row)
        if len(value) > MAX_ROW:
            raise ValueError(f"a row of kind {key.kind.tag!r} has {len(value)} bytes, at most {MAX_ROW} are allowed")
        due = row.due
        if not 0 <= due <= LAST_DUE:
            raise ValueError(f"a row is due at {due}, which is not a 32-bit Unix second")
        kind = key.kind
        share = row.share if kind.tallied else None
        owner = row.owner if kind.fair else b""
        return Change(raw, value, due, kind.counted and row.open, row.reserved if kind.reserves else 0, share, owner)
