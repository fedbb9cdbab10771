"""The port through which the services report what happens to challenges, approval requests and enrolments."""

from __future__ import annotations

from typing import Protocol

from sigil.core.approvals.approval import Approval
from sigil.core.challenge import Challenge
from sigil.core.enrolment.row import Enrolment


class SessionObserver(Protocol):
    """One call per event, after its transaction; never with a secret. `event` is the name of the log event."""

    def challenge(self, event: str, challenge_id: bytes, challenge: Challenge) -> None: ...

    def approval(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None:
        """`device`: the public key of the member that the event is about."""

    def enrolment(self, event: str, enrolment_id: bytes, enrolment: Enrolment) -> None: ...
