"""What an entry of the outbox is about: a challenge, by its id, or one member's part in a multi-party request."""

from __future__ import annotations

from sigil.core import approval, challenge
from sigil.core.approval import Approval, approval_key
from sigil.core.challenge import Challenge, challenge_key
from sigil.core.session_store import Key

PushSubject = Challenge | Approval
_ID_BYTES = 16


def is_member(name: bytes) -> bool:
    return len(name) > _ID_BYTES


def id_of(name: bytes) -> bytes:
    """The id of the challenge or of the request."""
    return name[:_ID_BYTES]


def member_of(name: bytes) -> int:
    return int.from_bytes(name[_ID_BYTES:])


def subject_key(name: bytes) -> Key:
    """Where it stands what is asked."""
    return approval_key(name[:_ID_BYTES]) if is_member(name) else challenge_key(name)


def current_state(now: float, asked: PushSubject | None) -> PushSubject | None:
    """The row as it reads at `now`."""
    return approval.settle(now, asked) if isinstance(asked, Approval) else challenge.settle(now, asked)


def is_pending(name: bytes, asked: PushSubject) -> bool:
    return asked.waits_for(member_of(name)) if isinstance(asked, Approval) else asked.open


def device_of(name: bytes, asked: PushSubject) -> bytes:
    """The public key of the device that is asked."""
    return asked.members[member_of(name)] if isinstance(asked, Approval) else asked.public_key
