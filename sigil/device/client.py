"""A device in conversation with its server: fetch what is pending, check it, answer at the pinned address."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from sigil.device.approval_checks import Shown, ShownApproval, verify_mpa_payload
from sigil.device.challenge_checks import ShownChallenge, verify_payload
from sigil.device.errors import AnswerUnusable, MatchCodeUnexpected, NotPending, PayloadRefused, ServerRefused
from sigil.device.http.connection import PendingAnswer, ServerConnection
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import Clock, SecondsInMemory
from sigil.protocol.approval_messages import MpaResponded
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.forms import Decision, Reason
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import Responded, decode

ServerAnswer = Responded | MpaResponded
"""The server's answer to an answer: for a challenge, or for a multi-party request."""


@dataclass(frozen=True)
class RefusedPayload:
    """What was listed and failed a check. Its id, of either kind, is what it claims, at most 64 characters, maybe
    empty.
    """

    challenge_id: str
    error: PayloadRefused


@dataclass(frozen=True)
class Inbox:
    """What was pending: checked challenges and multi-party requests, and what was refused of both."""

    challenges: list[ShownChallenge] = field(default_factory=list)
    refused: list[RefusedPayload] = field(default_factory=list)
    approvals: list[ShownApproval] = field(default_factory=list)

    @property
    def shown(self) -> list[Shown]:
        """All that may be asked."""
        return [*self.challenges, *self.approvals]

    def listed_ids(self) -> set[str]:
        return {shown.id for shown in self.shown} | {item.challenge_id for item in self.refused}

    def find(self, asked_id: str) -> Shown:
        """By challenge_id or mpa_id. NotPending; PayloadRefused when it is there but failed a check."""
        for shown in self.shown:
            if shown.id == asked_id:
                return shown
        for refused in self.refused:
            if refused.challenge_id == asked_id:
                raise refused.error
        raise NotPending


class DeviceClient:
    """One device and its pinned server. `seconds` gives the unused seconds, `clock` Unix time.

    Raises what `ServerConnection` raises.
    """

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: ServerConnection,
        *,
        seconds: Callable[[], int] | None = None,
        clock: Clock = time.time,
    ) -> None:
        self.device, self.server = device, server
        self._connection, self._clock = connection, clock
        self._seconds = seconds or SecondsInMemory(clock, time.sleep)

    def inbox(self) -> Inbox:
        """What is pending, every payload checked."""
        return checked_inbox(self._pending(), self.server, self.device.public, self._clock())

    def approve(self, shown: Shown, match_code: str | None = None) -> ServerAnswer:
        """MatchCodeRequired, MatchCodeUnexpected."""
        return self._respond(shown, "approved", match_code=match_code)

    def reject(self, shown: Shown, reason: Reason | None = None) -> ServerAnswer:
        return self._respond(shown, "rejected", reason=reason)

    def _pending(self) -> PendingAnswer:
        try:
            return self._ask_pending()
        except ServerRefused as error:
            if error.status != 401:
                raise
        # The second may be used up (a copy of this key, a lost `.second` file): once more with the next one.
        try:
            return self._ask_pending()
        except ServerRefused as error:
            raise lasting(error) from error

    def _ask_pending(self) -> PendingAnswer:
        return self._connection.pending(self.device.pending_body(self.server.server_id, self._seconds()))

    def _respond(
        self, shown: Shown, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> ServerAnswer:
        # Always to the pinned server: respond_to was compared with it and is not used.
        if isinstance(shown, ShownApproval):
            return as_voted(self._connection.vote(vote_of(self.device, shown, decision, match_code, reason)), decision)
        body = self.device.response(shown, decision, match_code=match_code, reason=reason)
        return as_signed(self._connection.respond(body), decision)


def checked_inbox(answer: PendingAnswer, server: ServerPin, device: PublicKey, now: float) -> Inbox:
    """Every payload of an answer checked; one that is refused hides no other."""
    inbox = Inbox()
    for raw in answer.challenges:
        try:
            inbox.challenges.append(verify_payload(bytes(raw), server, device, now))
        except PayloadRefused as error:
            inbox.refused.append(RefusedPayload(claimed_id(bytes(raw)), error))
    for raw in answer.mpa:
        try:
            inbox.approvals.append(verify_mpa_payload(bytes(raw), server, device, now))
        except PayloadRefused as error:
            inbox.refused.append(RefusedPayload(claimed_id(bytes(raw)), error))
    return inbox


def lasting(error: ServerRefused) -> ServerRefused:
    """A refusal that came twice, with what to look at when it is a 401."""
    if error.status != 401:
        return error
    return ServerRefused(
        401, error.code, f"{error.message} Is this machine's clock right, and the server still the same?"
    )


def as_signed(answer: Responded, decision: Decision) -> Responded:
    """AnswerUnusable when the server took it for the other decision."""
    if answer.verified != (decision == "approved"):
        raise AnswerUnusable("The server took the answer for another decision than was signed.")
    return answer


def vote_of(
    device: Device, shown: ShownApproval, decision: Decision, match_code: str | None, reason: Reason | None
) -> dict[str, str]:
    """The body of a vote; MatchCodeUnexpected: number matching is for challenges."""
    if match_code is not None:
        raise MatchCodeUnexpected
    return device.vote(shown, decision, reason=reason)


def as_voted(answer: MpaResponded, decision: Decision) -> MpaResponded:
    """AnswerUnusable when it ended the other way: an approval rejects nothing, nor a rejection the reverse."""
    if answer.status == ("rejected" if decision == "approved" else "approved"):
        raise AnswerUnusable("The server took the answer for another decision than was signed.")
    return answer


class _Claim(msgspec.Struct, frozen=True):
    challenge_id: str = ""
    mpa_id: str = ""


def claimed_id(payload: bytes) -> str:
    """The id that a payload claims, at most 64 characters; empty when there is none."""
    with contextlib.suppress(InvalidRequest):
        claim = decode(payload, _Claim)
        return (claim.challenge_id or claim.mpa_id)[:64]
    return ""
