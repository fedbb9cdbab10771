"""What is still to be said to a device through the relay: one entry a challenge, and one a member of a multi-party
request, in the transaction that decides. Its name says which (see `asked`).

An entry holds no payload: that is made from what is asked when it goes out. It is claimed for a while under a token
that the completion must show (see `delivery`); one that nobody completes can be claimed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal

import msgspec

from sigil.core.session_store import Decision, Key, Kind

LEASE_SECONDS = 30
"""How long a claim keeps others away: longer than a request to the relay may take."""
OWN_SECONDS = 2
"""How long a new entry is left to the worker that wrote it, which knows of it without looking."""
CLEAR_SECONDS = 300
"""How long after the end of a challenge its notification is worth taking away: the longest that one can stand."""
_SWEPT_SECONDS = 5
# Claims alone, without completions: at most one row each, and a transaction writes at most 200.
MOST_CLAIMS = 200


class Push(IntEnum):
    """How the push of a challenge stands. Kept in the challenge's row, of which a million may pend: one byte."""

    DISABLED = 0
    QUEUED = 1
    DELIVERED = 2
    NOT_REGISTERED = 3
    TOKEN_EVICTED = 4
    RATE_LIMITED = 5
    FAILED = 6
    RELAY_UNREACHABLE = 7

    @property
    def status(self) -> Literal["disabled", "queued", "delivered", "failed"]:
        return _STATUS.get(self, "failed")

    @property
    def error(self) -> str | None:
        """The relay's word for a failure."""
        return self.name.lower() if self.status == "failed" else None


_STATUS: dict[Push, Literal["disabled", "queued", "delivered"]] = {
    Push.DISABLED: "disabled",
    Push.QUEUED: "queued",
    Push.DELIVERED: "delivered",
}
# The relay said that no device was told: there is nothing to take away.
_NEVER_SHOWN = frozenset({Push.NOT_REGISTERED, Push.TOKEN_EVICTED, Push.RATE_LIMITED})


class Step(IntEnum):
    """What is to be done next: push the challenge, ask what became of it, or take the notification away."""

    PUSH = 0
    POLL_OUTCOME = 1
    CLEAR = 2


class OutboxEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Claimed while it has a token, until `due`; else to be claimed from `due` on. Times are Unix seconds.

    `claims` counts all claims, `tries` those of the present step that led to another try.
    """

    step: Step
    due: int
    expires_at: int
    claims: int = 0
    token: bytes = b""
    tries: int = 0

    @property
    def open(self) -> bool:
        return True


OUTBOX = Kind(b"o", OutboxEntry, counted=True, queue=True)


def outbox_key(name: bytes) -> Key:
    return Key(OUTBOX, name)


def new_entry(now: float, expires_at: int) -> OutboxEntry:
    """For what is newly asked."""
    return OutboxEntry(Step.PUSH, int(now) + OWN_SECONDS, expires_at)


def after_answer(entry: OutboxEntry | None) -> OutboxEntry | None:
    """The device has answered: nothing more is to be said. What is under way is completed by whoever has it."""
    return entry if entry is not None and entry.token else None


def after_end(now: float, entry: OutboxEntry | None, push: Push) -> OutboxEntry | None:
    """What was asked ended otherwise: its notification goes away, if it may have been shown.

    A clear that waits for the push under way keeps its token, and so its turn: it must not overtake the push.
    """
    if push is Push.DISABLED or (entry is not None and not entry.claims):
        return None
    expires_at = int(now) + CLEAR_SECONDS
    if entry is not None and entry.token:
        return OutboxEntry(Step.CLEAR, entry.due, expires_at, entry.claims, entry.token)
    # Claimed once more since the relay said so: whoever died with that claim may have sent it.
    unheard = entry is not None and entry.claims > entry.tries
    return None if push in _NEVER_SHOWN and not unheard else OutboxEntry(Step.CLEAR, int(now) + OWN_SECONDS, expires_at)


Claim = tuple[bytes, OutboxEntry]
"""The name of an entry, and the entry as it was claimed."""


def claim(
    now: float, keys: Sequence[Key], entries: Sequence[OutboxEntry | None], token: bytes
) -> Decision[list[Claim]]:
    """Take what may be taken, until LEASE_SECONDS from now. Of at most MOST_CLAIMS keys."""
    claims: list[Claim] = []
    writes: list[tuple[Key, Any]] = []
    for key, entry in zip(keys, entries, strict=True):
        if entry is None or (entry.claims and entry.due > now):
            continue
        after = _claimed(now, entry, token)
        writes.append((key, after))
        if after is not None and after.token == token:
            claims.append((key.name, after))
    return Decision(claims, tuple(writes))


def _claimed(now: float, entry: OutboxEntry, token: bytes) -> OutboxEntry | None:
    if now < entry.expires_at:
        return msgspec.structs.replace(entry, due=int(now) + LEASE_SECONDS, claims=entry.claims + 1, token=token)
    if entry.step is Step.CLEAR:
        return None
    # The sweep ends the challenge, and decides what is to be said then. It stays out of the others' way until it does.
    return msgspec.structs.replace(entry, due=int(now) + _SWEPT_SECONDS, token=b"")
