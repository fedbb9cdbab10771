"""What a listener tells. `push_id` is None for what was found by asking the server rather than pushed.

A `challenge_id` is the id of what is asked: of a challenge, or of a multi-party request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sigil.device.approval_checks import Shown
from sigil.device.errors import DeviceError, PayloadRefused


@dataclass(frozen=True)
class Connected:
    """The relay knows who we are, and pushes come from now on."""

    relay: str


@dataclass(frozen=True)
class Disconnected:
    """Tried again in `seconds`; `close_code` is None when there was no close frame or no connection."""

    reason: str
    close_code: int | None
    seconds: float


@dataclass(frozen=True)
class Registered:
    """The relay had lost this device's registration, and has it again."""

    relay: str


@dataclass(frozen=True)
class Received:
    """What passed every check; told once."""

    shown: Shown
    push_id: str | None


@dataclass(frozen=True)
class Refused:
    """What failed a check. Its id is what it claims, at most 64 characters, maybe empty."""

    challenge_id: str
    error: PayloadRefused
    push_id: str | None


@dataclass(frozen=True)
class Cleared:
    """A hint, signed by nobody: what is shown of it may go, and nothing else follows."""

    challenge_id: str
    status: str
    push_id: str


@dataclass(frozen=True)
class Repeated:
    """A push that came before, or another push of what was told."""

    challenge_id: str
    push_id: str


@dataclass(frozen=True)
class Gone:
    """A push named what is asked by reference, and the server lists it no more."""

    challenge_id: str
    push_id: str


@dataclass(frozen=True)
class Ignored:
    """A message of a type that this version does not know."""

    type: str
    push_id: str | None


@dataclass(frozen=True)
class PendingFailed:
    """The server could not be asked what is pending; when that may pass, it is asked again."""

    error: DeviceError


Event = Connected | Disconnected | Registered | Received | Refused | Cleared | Repeated | Gone | Ignored | PendingFailed
OnEvent = Callable[[Event], Awaitable[None]]
"""Returns once the device has what it was told (queued, written down), not once a person has answered: a push is
acknowledged after that, and never comes again."""
