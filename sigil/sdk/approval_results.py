"""Results of calls about approval requests: frozen values, as in `results`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sigil.sdk.results import Attestation, Time

State = Literal["pending", "approved", "rejected", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True)
class MpaRequest:
    """A request that was created now, or earlier with the same request_id. `status` is the current one."""

    request_id: str
    mpa_id: str
    status: State
    groups_required: int
    groups_total: int
    challenges_sent: int
    expires_at: Time


@dataclass(frozen=True, slots=True)
class MpaMember:
    device_public_key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MpaGroup:
    members: tuple[MpaMember, ...]


@dataclass(frozen=True, slots=True)
class MpaVote:
    """One device's vote with its signature; `group` is the index of its group. `device_credential` is the public part
    of the credential that proves `attestation`. `user_verification` and `synced` are None for a plain key;
    `verify_votes` reads both from the signature.
    """

    fingerprint: str
    device_public_key: str
    group: int
    decision: Literal["approved", "rejected"]
    at: Time
    signature: bytes = field(repr=False)
    reason: str | None = None
    attestation: Attestation | None = None
    device_credential: str | None = field(default=None, repr=False)
    user_verification: bool | None = None
    synced: bool | None = None


@dataclass(frozen=True, slots=True)
class MpaStatus:
    """The status of a request when the server responded, with all that `verify_votes` needs."""

    request_id: str
    mpa_id: str
    status: State
    groups_satisfied: tuple[int, ...]
    groups_required: int
    groups_total: int
    expires_at: Time
    action_context: dict[str, Any]
    server_signature: bytes = field(repr=False)
    server_public_key: str
    groups: tuple[MpaGroup, ...]
    votes: tuple[MpaVote, ...]

    @property
    def is_final(self) -> bool:
        """Whether it is in a final state."""
        return self.status != "pending"

    @property
    def approved(self) -> bool:
        """Whether enough groups approved. Act on this alone."""
        return self.status == "approved"

    def __bool__(self) -> bool:
        """`if status:` would be true for a rejection too."""
        raise TypeError("a status is neither true nor false: use .approved")
