"""What this server has of one device at the moment: pending challenges and requests, their pushes, mutes and limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sigil.app.state import open_running_store
from sigil.core import challenge
from sigil.core.approvals import approval
from sigil.core.approvals.approval import Approval, member_name
from sigil.core.challenge import LEDGER, Challenge, challenge_key
from sigil.core.device_ledger import Ledger, Limits, Tally
from sigil.core.pushes.outbox import OutboxEntry, Push, Step, outbox_key
from sigil.core.session_store import Key, SessionStore
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid
from sigil.protocol.keys import PublicKey

LEDGER_NAME = 24
"""Hex characters of a fingerprint in the name of its ledger."""
_MAX_PENDING = 100
_STEPS = {Step.PUSH: "send", Step.POLL_OUTCOME: "poll", Step.CLEAR: "clear", Step.POLL_ANSWERED: "poll"}


@dataclass(frozen=True)
class PendingItem:
    """One pending challenge or approval request. `error` of its push: see `Push`. `attempt_in`: seconds until the next
    attempt of its outbox entry, None without one; `sending`: a worker has it.
    """

    id: str
    type: Literal["challenge", "mpa"]
    key_id: str
    expires_in: int
    push: str
    error: str | None
    step: str | None
    sending: bool
    attempt_in: int | None
    attempts: int


@dataclass(frozen=True)
class KeyLimits:
    """Of one API key at the device. `muted_for`, `limited_for`: seconds, 0 for none."""

    key_id: str
    pending: int
    muted_for: int
    limited_for: int


@dataclass(frozen=True)
class DeviceSessions:
    """`fingerprints`: those of this server's devices that begin as requested, whole if they have something pending."""

    fingerprints: list[str]
    pending: list[PendingItem] = field(default_factory=list)
    limits: list[KeyLimits] = field(default_factory=list)


def read_sessions(state_dir: Path, beginning: str, limits: Limits) -> DeviceSessions:
    """Of the server that runs on a state directory, without a change. StartupError: none runs, or no access."""
    with closing(open_running_store(state_dir)) as store:
        names = _ledgers(store, beginning)
        if len(names) != 1:
            return DeviceSessions([name.hex() for name in names])
        ledger = store.peek(Key(LEDGER, names[0]))
        if not isinstance(ledger, Ledger):
            return DeviceSessions([])
        now = store.now()
        found: list[PendingItem] = []
        keys: set[bytes] = set()
        for name in ledger.pending(now)[:_MAX_PENDING]:
            for item, key in _items(store, now, name, names[0]):
                found.append(item)
                keys.add(key)
        whole = [PublicKey.parse(key).fingerprint for key in keys]
        tallies = [_limits(now, tally, limits) for tally in ledger.tallies]
        return DeviceSessions(whole or [names[0].hex()], found, tallies)


def _ledgers(store: SessionStore, beginning: str) -> list[bytes]:
    """The names of at most a few ledgers."""
    text = beginning[:LEDGER_NAME]
    whole = bytes.fromhex(text[: len(text) // 2 * 2])
    return [name for name in store.names(LEDGER, whole, 64) if name.hex().startswith(text)]


def _items(store: SessionStore, now: float, name: bytes, ledger: bytes) -> Iterator[tuple[PendingItem, bytes]]:
    """The item with that id, and the public key of the device."""
    row = challenge.current_state(now, store.peek(challenge_key(name)))
    if row is not None:
        if row.open and challenge.ledger_key(row.public_key).name == ledger:
            entry = store.peek(outbox_key(name))
            yield _item(now, name, row, row.push, entry), row.public_key
        return
    request = approval.current_state(now, store.peek(approval.approval_key(name)))
    for member, key in enumerate(request.members if request else ()):
        if request and challenge.ledger_key(key).name == ledger and request.is_pending_for(member):
            entry = store.peek(outbox_key(member_name(name, member)))
            push = Push.QUEUED if request.pushed else Push.DISABLED
            yield _item(now, name, request, push, entry), key


def _item(now: float, name: bytes, subject: Challenge | Approval, push: Push, entry: OutboxEntry | None) -> PendingItem:
    is_request = isinstance(subject, Approval)
    # A request has no push state for each member: without an entry, the push has its result.
    sent = is_request and push is Push.QUEUED and entry is None
    return PendingItem(
        id=format_uuid(name),
        type="mpa" if is_request else "challenge",
        key_id=Caller(subject.owner).key_id,
        expires_in=int(subject.deadline - now),
        push="sent" if sent else push.status,
        error=push.error,
        step=_STEPS[entry.step] if entry else None,
        sending=bool(entry and entry.token and entry.due > now),
        attempt_in=max(0, int(entry.due - now)) if entry else None,
        attempts=entry.claims if entry else 0,
    )


def _limits(now: float, tally: Tally, limits: Limits) -> KeyLimits:
    pending = Ledger((tally,)).pending(now)
    limited = 0.0
    if limits.per_minute:
        # A creation is rejected while it would be more than a minute ahead (`device_ledger`).
        limited = tally.theoretical_arrival_ms / 1000 - now + 60 / limits.per_minute - 60
    return KeyLimits(
        key_id=Caller(tally.owner).key_id,
        pending=len(pending),
        muted_for=tally.muted_for(now),
        limited_for=max(0, -int(-limited // 1)),
    )
