"""Arguments and results of calls: frozen values. Members that a later server adds are ignored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from sigil.protocol.messages.attestation import Binding, Level

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware datetime in UTC."""


@dataclass(frozen=True, slots=True)
class Action:
    """The action that the person sees and approves or rejects.

    type: 1..64 of a-z 0-9 _ . : -; description: 1..256 characters; params: JSON without fractions. The whole
    action has at most 2048 bytes.
    """

    type: str
    description: str
    params: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a device proved about its key, when it did so.

    kind: android-key, apple-appattest, yubikey-piv; later servers may have others. binding: "direct" when the proof
    holds the key itself, "witness" when an attested app vouches for it.
    """

    kind: str
    level: Level
    binding: Binding
    attested_at: Time


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that was created. `match_code`, if any, is two digits to show to the person."""

    challenge_id: str
    fingerprint: str
    pictogram: tuple[str, ...]
    pictogram_speakable: str
    expires_at: Time
    challenge_bytes: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    server_signature: bytes = field(repr=False)
    respond_to: str | None = None
    match_code: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Push:
    """The state of the push: `queued`, `delivered`, `failed` or `disabled`; `error` is the relay's error code."""

    status: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ChallengeStatus:
    """The status of a challenge when the server responded."""

    challenge_id: str
    status: Literal["pending", "verified", "rejected", "expired", "cancelled"]
    fingerprint: str
    pictogram: tuple[str, ...]
    pictogram_speakable: str
    action: Action
    expires_at: Time
    push: Push
    decision: str | None = None
    reason: str | None = None
    match_code: str | None = field(default=None, repr=False)
    verified_at: Time | None = None
    attestation: Attestation | None = None
    user_verification: bool | None = None
    synced: bool | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is in a final state."""
        return self.status != "pending"

    @property
    def verified(self) -> bool:
        """Whether the person approved. Act on this alone."""
        return self.status == "verified"

    def __bool__(self) -> bool:
        """`if status:` would be true for a rejection too."""
        raise TypeError("a status is neither true nor false: use .verified")
