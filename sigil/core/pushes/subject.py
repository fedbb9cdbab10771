"""The subject of an outbox entry: a challenge, or one member of an approval request.

The name of the entry is the challenge_id, or the mpa_id and the member's number after its 16 bytes.
"""

from __future__ import annotations

from sigil.core import challenge
from sigil.core.approvals import approval
from sigil.core.approvals.approval import Approval, approval_key
from sigil.core.challenge import Challenge, challenge_key
from sigil.core.session_store import Key

PushSubject = Challenge | Approval
_ID_BYTES = 16


def is_member(name: bytes) -> bool:
    return len(name) > _ID_BYTES


def id_of(name: bytes) -> bytes:
    """The challenge_id or mpa_id."""
    return name[:_ID_BYTES]


def member_of(name: bytes) -> int:
    return int.from_bytes(name[_ID_BYTES:])


def subject_key(name: bytes) -> Key:
    """The key of the challenge or request."""
    return approval_key(name[:_ID_BYTES]) if is_member(name) else challenge_key(name)


def current_state(now: float, subject: PushSubject | None) -> PushSubject | None:
    """The row as it reads at `now`."""
    return (
        approval.current_state(now, subject) if isinstance(subject, Approval) else challenge.current_state(now, subject)
    )


def is_pending(name: bytes, subject: PushSubject) -> bool:
    return subject.is_pending_for(member_of(name)) if isinstance(subject, Approval) else subject.open


def device_of(name: bytes, subject: PushSubject) -> bytes:
    """The public key of the device that the push goes to."""
    return subject.members[member_of(name)] if isinstance(subject, Approval) else subject.public_key
