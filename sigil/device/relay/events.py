"""The events of a listener. `push_id` is None for a challenge that was fetched from the server and not pushed.

A `challenge_id` is the id of a challenge or of an approval request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sigil.device.approval_checks import Shown
from sigil.device.errors import DeviceError, PayloadRefused


@dataclass(frozen=True)
class Connected:
    """The relay has authenticated the device, and pushes can arrive."""

    relay: str


@dataclass(frozen=True)
class Disconnected:
    """The listener reconnects in `seconds`; `close_code` is None without a close frame or a connection."""

    reason: str
    close_code: int | None
    seconds: float


@dataclass(frozen=True)
class Registered:
    """The relay had lost this device's registration; the device has registered again."""

    relay: str


@dataclass(frozen=True)
class Received:
    """A challenge or approval request that passed every check; reported once."""

    shown: Shown
    push_id: str | None


@dataclass(frozen=True)
class Refused:
    """A payload that failed a check. `challenge_id` is the id that it claims: at most 64 characters, may be empty."""

    challenge_id: str
    error: PayloadRefused
    push_id: str | None


@dataclass(frozen=True)
class Cleared:
    """An unsigned hint: the prompt may be removed, and nothing else follows."""

    challenge_id: str
    status: str
    push_id: str


@dataclass(frozen=True)
class Repeated:
    """A repeated push, or another push about a reported challenge."""

    challenge_id: str
    push_id: str


@dataclass(frozen=True)
class Gone:
    """A push by reference to a challenge that the server no longer lists."""

    challenge_id: str
    push_id: str


@dataclass(frozen=True)
class Ignored:
    """A message of a type that this version does not know."""

    type: str
    push_id: str | None


@dataclass(frozen=True)
class PendingFailed:
    """The query for pending challenges failed; the listener retries a temporary error."""

    error: DeviceError


Event = Connected | Disconnected | Registered | Received | Refused | Cleared | Repeated | Gone | Ignored | PendingFailed
OnEvent = Callable[[Event], Awaitable[None]]
"""Returns when the device has accepted the event (queued or stored it), not when a person has answered: the listener
then acknowledges the push, and the relay never sends it again."""
