"""A device in conversation with its server: fetch what is pending, check it, answer at the pinned address."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from sigil.device.checks import ShownChallenge, verify_payload
from sigil.device.pin import ServerPin
from sigil.device.refusals import AnswerUnusable, NotPending, PayloadRefused, ServerRefused
from sigil.device.seconds import Clock, SecondsInMemory
from sigil.device.software import Device
from sigil.device.wire import PendingAnswer, ServerConnection
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.forms import Decision, Reason
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import Responded, decode


@dataclass(frozen=True)
class RefusedPayload:
    """A listed challenge that failed a check. Its id is what it claims, at most 64 characters, maybe empty."""

    challenge_id: str
    error: PayloadRefused


@dataclass(frozen=True)
class Inbox:
    """What was pending: checked challenges, refused ones, and how many M-of-N requests there are besides."""

    challenges: list[ShownChallenge] = field(default_factory=list)
    refused: list[RefusedPayload] = field(default_factory=list)
    mpa: int = 0

    def listed_ids(self) -> set[str]:
        return {shown.challenge_id for shown in self.challenges} | {item.challenge_id for item in self.refused}

    def find(self, challenge_id: str) -> ShownChallenge:
        """NotPending; PayloadRefused when it is there but failed a check."""
        for shown in self.challenges:
            if shown.challenge_id == challenge_id:
                return shown
        for refused in self.refused:
            if refused.challenge_id == challenge_id:
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

    def approve(self, shown: ShownChallenge, match_code: str | None = None) -> Responded:
        """MatchCodeRequired, MatchCodeUnexpected."""
        return self._respond(shown, "approved", match_code=match_code)

    def reject(self, shown: ShownChallenge, reason: Reason | None = None) -> Responded:
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
        self, shown: ShownChallenge, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> Responded:
        # Always to the pinned server: respond_to was compared with it and is not used.
        body = self.device.response(shown, decision, match_code=match_code, reason=reason)
        return as_signed(self._connection.respond(body), decision)


def checked_inbox(answer: PendingAnswer, server: ServerPin, device: PublicKey, now: float) -> Inbox:
    """Every payload of an answer checked; one that is refused hides no other."""
    challenges, refused = [], []
    for raw in answer.challenges:
        try:
            challenges.append(verify_payload(bytes(raw), server, device, now))
        except PayloadRefused as error:
            refused.append(RefusedPayload(_claimed_id(raw), error))
    return Inbox(challenges, refused, len(answer.mpa))


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


class _Id(msgspec.Struct):
    challenge_id: str = ""


def _claimed_id(raw: msgspec.Raw) -> str:
    with contextlib.suppress(InvalidRequest):
        return decode(bytes(raw), _Id).challenge_id[:64]
    return ""
