"""The outbox of pushes: one entry for each challenge, and one for each member of an approval request.

The transaction that changes the challenge or request writes the entry. The name of the entry identifies its subject
(see `pushes.subject`). An entry holds no payload: the payload is made from the subject when it is sent. A claim writes
a token and a lease into the entry, and the completion must show that token (see `pushes.delivery`). When the lease ends
without a completion, any worker can claim the entry again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal

import msgspec

from sigil.core.session_store import OWNER_BYTES, Decision, Key, Kind

LEASE_SECONDS = 30
"""The lease of a claim: longer than a request to the relay may take."""
OWN_SECONDS = 2
"""How long a new entry is left to the worker that wrote it, which has its name in the backlog."""
ANSWERED_SECONDS = 1
"""How long after an answer the outcome of a queued push is polled: a device that got the push has acknowledged it."""
CLEAR_SECONDS = 300
"""How long after the end of a challenge a clear is tried: no notification is shown for longer."""
_SWEEP_SECONDS = 5
# Claims alone, without completions: at most one row each, and a transaction writes at most 200.
MAX_CLAIMS = 200


class Push(IntEnum):
    """The push state of a challenge. One byte in the challenge's row, of which a million may be pending."""

    DISABLED = 0
    QUEUED = 1
    DELIVERED = 2
    NOT_REGISTERED = 3
    TOKEN_EVICTED = 4
    RATE_LIMITED = 5
    FAILED = 6
    RELAY_UNREACHABLE = 7
    CLEARED = 8

    @property
    def status(self) -> Literal["disabled", "queued", "delivered", "failed"]:
        return _STATUS.get(self, "failed")

    @property
    def error(self) -> str | None:
        """The relay's code for a failure. CLEARED: the device answered before it got the push."""
        return self.name.lower() if self.status == "failed" else None


_STATUS: dict[Push, Literal["disabled", "queued", "delivered"]] = {
    Push.DISABLED: "disabled",
    Push.QUEUED: "queued",
    Push.DELIVERED: "delivered",
}
# The relay reported that it sent nothing to a device: there is no notification to clear.
_NEVER_SHOWN = frozenset({Push.NOT_REGISTERED, Push.TOKEN_EVICTED, Push.RATE_LIMITED})


class Step(IntEnum):
    """What to do next: send the push, poll for its outcome, clear the notification, or, after an answer of the device,
    poll once more and clear the push if it is still queued.
    """

    PUSH = 0
    POLL_OUTCOME = 1
    CLEAR = 2
    POLL_ANSWERED = 3

    @property
    def polls(self) -> bool:
        return self in {Step.POLL_OUTCOME, Step.POLL_ANSWERED}


class OutboxEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """With a token: claimed until `due`. Without: may be claimed from `due` on. Times are Unix seconds.

    `claims` counts all claims, `tries` those of the current step that led to another try. `owner`: its first
    OWNER_BYTES.
    """

    step: Step
    due: int
    expires_at: int
    claims: int = 0
    token: bytes = b""
    tries: int = 0
    owner: bytes = bytes(OWNER_BYTES)

    @property
    def open(self) -> bool:
        return True


OUTBOX = Kind(b"o", OutboxEntry, counted=True, queue=True, fair=True)


def outbox_key(name: bytes) -> Key:
    return Key(OUTBOX, name)


def new_entry(now: float, expires_at: int, owner: bytes) -> OutboxEntry:
    """For a new challenge, or a member of a new approval request."""
    return OutboxEntry(Step.PUSH, int(now) + OWN_SECONDS, expires_at, owner=owner[:OWNER_BYTES])


def after_answer(now: float, entry: OutboxEntry | None) -> OutboxEntry | None:
    """The device has responded: delete the entry, or poll the outcome of a push that the relay may have queued. An
    entry that is in flight stays for its holder to complete.
    """
    if entry is None or entry.token:
        return entry
    maybe_queued = entry.step is Step.POLL_OUTCOME or entry.claims > entry.tries
    return poll_answered(now, entry) if maybe_queued else None


def poll_answered(now: float, entry: OutboxEntry) -> OutboxEntry:
    """The relay queued the push, and its device has answered: if it got the push by another way, such as a list of what
    is pending, the push still waits for it, and would prompt for what is answered.
    """
    return msgspec.structs.replace(
        entry,
        step=Step.POLL_ANSWERED,
        due=int(now) + ANSWERED_SECONDS,
        expires_at=int(now) + CLEAR_SECONDS,
        token=b"",
        tries=0,
    )


def clear_answered(now: float, entry: OutboxEntry) -> OutboxEntry:
    """The push still waits for its device."""
    return msgspec.structs.replace(
        entry, step=Step.CLEAR, due=int(now), expires_at=int(now) + CLEAR_SECONDS, token=b"", tries=0
    )


def after_end(now: float, entry: OutboxEntry | None, push: Push, owner: bytes) -> OutboxEntry | None:
    """The subject ended without a response of the device: clear its notification, if it may have been shown.

    A clear must not overtake its push: while the push is in flight, the clear keeps the token and the lease.
    """
    if push is Push.DISABLED or (entry is not None and not entry.claims):
        return None
    expires_at = int(now) + CLEAR_SECONDS
    if entry is not None and entry.token:
        return OutboxEntry(Step.CLEAR, entry.due, expires_at, entry.claims, entry.token, owner=entry.owner)
    # Claimed again since the relay reported that: a worker that died with this claim may have sent the push.
    maybe_sent = entry is not None and entry.claims > entry.tries
    if push in _NEVER_SHOWN and not maybe_sent:
        return None
    return OutboxEntry(Step.CLEAR, int(now) + OWN_SECONDS, expires_at, owner=owner[:OWNER_BYTES])


Claim = tuple[bytes, OutboxEntry]
"""The name of an entry, and the entry as claimed."""


def claim(
    now: float, keys: Sequence[Key], entries: Sequence[OutboxEntry | None], token: bytes
) -> Decision[list[Claim]]:
    """Claim, for LEASE_SECONDS, those of at most MAX_CLAIMS entries that are free."""
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
    # A token here is that of a worker that died with its claim. The subject may have been answered since, and then no
    # sweep comes for it: the attempt finds that out, sends nothing, and its completion deletes the entry.
    ended = entry.step in {Step.CLEAR, Step.POLL_ANSWERED}
    if now < entry.expires_at or (entry.token and not ended):
        return msgspec.structs.replace(entry, due=int(now) + LEASE_SECONDS, claims=entry.claims + 1, token=token)
    if ended:
        return None
    # The expiry sweep ends the challenge and decides whether to clear. Until then the entry does not delay others.
    return msgspec.structs.replace(entry, due=int(now) + _SWEEP_SECONDS, token=b"")
