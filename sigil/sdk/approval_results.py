"""What calls about multi-party requests give: frozen values, as in `results`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sigil.sdk.results import Time

State = Literal["pending", "approved", "rejected", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True)
class MpaRequest:
    """A request that was made, or made before under the same request_id: then `status` is that of now."""

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
    """One device's answer with its proof; `group` is the index of its group."""

    fingerprint: str
    device_public_key: str
    group: int
    decision: Literal["approved", "rejected"]
    at: Time
    signature: bytes = field(repr=False)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class MpaStatus:
    """A request as it stood when the server answered, with all that `verify_votes` wants."""

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
        """Whether it has ended, in whatever way."""
        return self.status != "pending"

    @property
    def approved(self) -> bool:
        """Whether enough groups approved: the only thing to let an action happen on."""
        return self.status == "approved"

    def __bool__(self) -> bool:
        """`if status:` would be true for a rejection too."""
        raise TypeError("a status is neither true nor false: ask .approved")
