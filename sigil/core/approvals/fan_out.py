"""Writes for every member of a request happen in batches: a thousand members do not fit in one transaction.

The transaction that creates or ends a request writes the first batch, which covers most requests, and a row with the
progress. Each later batch advances that row in its own transaction: so each batch is written once, by any worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sigil.core.approvals.approval import Approval, approval_key, member_name
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Ledger
from sigil.core.pushes.outbox import OWN_SECONDS, Push, after_end, new_entry, outbox_key
from sigil.core.session_store import Decision, Key, Kind

MEMBERS_AT_ONCE = 50
"""Two rows each, and a few of the request itself: well below the 200 of a transaction."""

Rows = Mapping[Key, Any]
Writes = list[tuple[Key, Any]]


class FanOut(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The progress of a request's fan-out: of its pushes or, with `clears`, of the clears of members without a vote.

    `next` is the first member of the next batch; `pushed` the number of members that were pushed before the end.
    """

    due: int
    next: int
    clears: bool = False
    pushed: int = 0

    @property
    def open(self) -> bool:
        return True


FAN_OUT = Kind(b"b", FanOut, counted=True, queue=True)


def fan_out_key(mpa_id: bytes) -> Key:
    return Key(FAN_OUT, mpa_id)


def batch_after(approval: Approval, start: int) -> range:
    """The members of one batch."""
    return range(start, min(start + MEMBERS_AT_ONCE, len(approval.members)))


def rows_of_batch(mpa_id: bytes, approval: Approval, members: range) -> list[Key]:
    """The rows that the transaction of a batch reads."""
    keys = [ledger_key(approval.members[member]) for member in members]
    if approval.pushed:
        keys += [outbox_key(member_name(mpa_id, member)) for member in members]
    return keys


def rows_at_end(mpa_id: bytes, approval: Approval) -> list[Key]:
    """The rows that the transaction that ends a request reads, in addition to its own: the first batch."""
    first = rows_of_batch(mpa_id, approval, batch_after(approval, 0))
    return first if len(approval.members) <= MEMBERS_AT_ONCE else [fan_out_key(mpa_id), *first]


def first_pushes(now: float, mpa_id: bytes, approval: Approval) -> Writes:
    """The first batch of a new request, and the progress row."""
    batch = batch_after(approval, 0)
    return _push(now, mpa_id, approval, batch) + _remaining(now, mpa_id, approval, FanOut(0, batch.stop))


def first_clears(now: float, mpa_id: bytes, approval: Approval, rows: Rows) -> Writes:
    """The first batch of a request that has ended, if its rows were read, and the progress row."""
    before: FanOut | None = rows.get(fan_out_key(mpa_id))
    pushed = len(approval.members) if before is None else before.next
    batch = batch_after(approval, 0)
    if not all(key in rows for key in rows_of_batch(mpa_id, approval, batch)):
        batch = range(0)
    rest = FanOut(0, batch.stop, clears=True, pushed=pushed if approval.pushed else 0)
    return _clear(now, mpa_id, approval, batch, pushed=rest.pushed, rows=rows) + _remaining(now, mpa_id, approval, rest)


def next_batch(now: float, mpa_id: bytes, seen: FanOut | None, rows: Rows) -> Decision[bool]:
    """The next batch after the progress `seen`; True when another batch may remain."""
    at = fan_out_key(mpa_id)
    row: FanOut | None = rows[at]
    approval: Approval | None = rows[approval_key(mpa_id)]
    if row is None or approval is None:
        return Decision(False, ((at, None),) if row else ())
    if row != seen:
        return Decision(True)
    batch = batch_after(approval, row.next)
    after = msgspec.structs.replace(row, next=batch.stop)
    if row.clears:
        writes = _clear(now, mpa_id, approval, batch, pushed=row.pushed, rows=rows)
    else:
        writes = _push(now, mpa_id, approval, batch)
    writes += _remaining(now, mpa_id, approval, after) or [(at, None)]
    return Decision(batch.stop < len(approval.members), tuple(writes))


def _push(now: float, mpa_id: bytes, approval: Approval, batch: range) -> Writes:
    if not approval.pushed:
        return []
    entry = new_entry(now, approval.deadline, approval.owner)
    return [(outbox_key(member_name(mpa_id, member)), entry) for member in batch if approval.is_pending_for(member)]


def _clear(now: float, mpa_id: bytes, approval: Approval, batch: range, *, pushed: int, rows: Rows) -> Writes:
    """For members without a vote: the request leaves their ledgers, and their pushes are cleared. A vote has already
    done both for its member.
    """
    writes: Writes = []
    for member in batch:
        if not approval.has_open_ballot(member):
            continue
        ledger: Ledger | None = rows.get(ledger_key(approval.members[member]))
        if ledger is not None:
            writes.append((ledger_key(approval.members[member]), ledger.removed(approval.owner, mpa_id)))
        if member < pushed:
            at = outbox_key(member_name(mpa_id, member))
            entry = rows.get(at)
            after = after_end(now, entry, Push.QUEUED, approval.owner)
            if after is not entry:
                writes.append((at, after))
    return writes


def _remaining(now: float, mpa_id: bytes, approval: Approval, row: FanOut) -> Writes:
    if row.next >= len(approval.members) or not (approval.pushed or row.clears):
        return []
    return [(fan_out_key(mpa_id), msgspec.structs.replace(row, due=int(now) + OWN_SECONDS))]
