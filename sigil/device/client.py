"""A device's requests to its server: fetch the pending challenges, check them, and answer at the pinned address."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from sigil.device.approval_checks import Shown, ShownApproval, verify_mpa_payload
from sigil.device.challenge_checks import ShownChallenge, verify_payload
from sigil.device.credential.client import Credentials
from sigil.device.credential.steps import approval_error, has_expired, with_credential
from sigil.device.errors import AnswerUnusable, MatchCodeUnexpected, NotPending, PayloadRefused, ServerRefused
from sigil.device.http.connection import ServerConnection
from sigil.device.http.exchange import PendingResponse
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.device.timestamps import Clock, MemoryTimestamps
from sigil.device.wrong_codes import MemoryWrongCodes, WrongCodes, wrong_code
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.approvals import MpaResponded
from sigil.protocol.messages.base import Decision, Reason
from sigil.protocol.messages.challenges import Responded
from sigil.protocol.messages.decoding import decode

ServerAnswer = Responded | MpaResponded
"""The server's response to a device's answer: for a challenge, or for an approval request."""


@dataclass(frozen=True)
class RefusedPayload:
    """A listed payload that failed a check. `challenge_id` is the id that it claims, a challenge_id or an mpa_id: at
    most 64 characters, may be empty.
    """

    challenge_id: str
    error: PayloadRefused


@dataclass(frozen=True)
class Inbox:
    """The pending challenges and approval requests that passed the checks, and the payloads of both that failed."""

    challenges: list[ShownChallenge] = field(default_factory=list)
    refused: list[RefusedPayload] = field(default_factory=list)
    approvals: list[ShownApproval] = field(default_factory=list)

    @property
    def shown(self) -> list[Shown]:
        """All that may be shown."""
        return [*self.challenges, *self.approvals]

    def listed_ids(self) -> set[str]:
        return {shown.id for shown in self.shown} | {item.challenge_id for item in self.refused}

    def find(self, pending_id: str) -> Shown:
        """By challenge_id or mpa_id, in either case (RFC 9562, 4). NotPending; PayloadRefused when it is listed but
        failed a check.
        """
        pending_id = pending_id.lower()
        for shown in self.shown:
            if shown.id == pending_id:
                return shown
        for refused in self.refused:
            if refused.challenge_id == pending_id:
                raise refused.error
        raise NotPending


class DeviceClient:
    """One device and its pinned server. `timestamps` returns unused Unix seconds, `clock` Unix time.

    Raises what `ServerConnection` raises.
    """

    def __init__(
        self,
        device: Device,
        server: ServerPin,
        connection: ServerConnection,
        *,
        timestamps: Callable[[], int] | None = None,
        clock: Clock = time.time,
        wrong_codes: WrongCodes | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.device, self.server = device, server
        self._connection, self._clock = connection, clock
        self._wrong_codes = wrong_codes or MemoryWrongCodes()
        self._credentials = credentials
        self._timestamps = timestamps or MemoryTimestamps(clock, time.sleep)

    def inbox(self) -> Inbox:
        """All that is pending, every payload checked."""
        return checked_inbox(self._pending(), self.server, self.device.public, self._clock())

    def approve(self, shown: Shown, match_code: str | None = None) -> ServerAnswer:
        """MatchCodeRequired, MatchCodeUnexpected, MatchCodeWrong."""
        try:
            return self._respond(shown, "approved", match_code=match_code)
        except ServerRefused as error:
            if wrong := wrong_code(error, shown.id, match_code, self._wrong_codes):
                raise wrong from error
            raise

    def reject(self, shown: Shown, reason: Reason | None = None) -> ServerAnswer:
        return self._respond(shown, "rejected", reason=reason)

    def _pending(self) -> PendingResponse:
        try:
            return self._fetch_pending()
        except ServerRefused as error:
            if error.status != 401:
                raise
        # The timestamp may be used already (a copy of this key, a lost `.second` file): retry once with the next one.
        try:
            return self._fetch_pending()
        except ServerRefused as error:
            raise with_clock_hint(error) from error

    def _fetch_pending(self) -> PendingResponse:
        return self._connection.pending(self.device.pending_body(self.server.server_id, self._timestamps()))

    def _respond(
        self, shown: Shown, decision: Decision, *, match_code: str | None = None, reason: Reason | None = None
    ) -> ServerAnswer:
        # Always to the pinned server: respond_to was compared with it and is not used.
        body = answer_body(self.device, shown, decision, match_code, reason)
        try:
            answer = self._send(shown, body, decision)
        except ServerRefused as error:
            raise approval_error(error) from error
        return check_decision(answer, decision)

    def _send(self, shown: Shown, body: dict[str, str], decision: Decision) -> ServerAnswer:
        """Approvals have the credential, and a rejection never needs one. An expired one is renewed, once."""
        send = self._connection.vote if isinstance(shown, ShownApproval) else self._connection.respond
        if self._credentials is None or decision == "rejected":
            return send(body)
        credential = self._credentials.for_approval()
        try:
            return send(with_credential(body, credential))
        except ServerRefused as error:
            if not has_expired(error) or (renewed := self._credentials.renewed()) is None:
                raise
        return send(with_credential(body, renewed))


def checked_inbox(response: PendingResponse, server: ServerPin, device: PublicKey, now: float) -> Inbox:
    """Every payload of a response checked; a refused one hides no other."""
    inbox = Inbox()
    for raw in response.challenges:
        try:
            inbox.challenges.append(verify_payload(bytes(raw), server, device, now))
        except PayloadRefused as error:
            inbox.refused.append(RefusedPayload(claimed_id(bytes(raw)), error))
    for raw in response.mpa:
        try:
            inbox.approvals.append(verify_mpa_payload(bytes(raw), server, device, now))
        except PayloadRefused as error:
            inbox.refused.append(RefusedPayload(claimed_id(bytes(raw)), error))
    return inbox


def with_clock_hint(error: ServerRefused) -> ServerRefused:
    """The error of a second attempt; a 401 also says what to check."""
    if error.status != 401:
        return error
    hint = "Check this machine's clock, and that the server is still the same."
    return ServerRefused(401, error.code, f"{error.message} {hint}")


def answer_body(
    device: Device, shown: Shown, decision: Decision, match_code: str | None, reason: Reason | None
) -> dict[str, str]:
    """The signed body of an answer or a vote. MatchCodeUnexpected for a vote: only challenges have number matching."""
    if not isinstance(shown, ShownApproval):
        return device.response(shown, decision, match_code=match_code, reason=reason)
    if match_code is not None:
        raise MatchCodeUnexpected
    return device.vote(shown, decision, reason=reason)


def check_decision(answer: ServerAnswer, decision: Decision) -> ServerAnswer:
    """AnswerUnusable when the server recorded the opposite: an approval never rejects, a rejection never approves."""
    if isinstance(answer, Responded):
        opposite = answer.verified != (decision == "approved")
    else:
        opposite = answer.status == ("rejected" if decision == "approved" else "approved")
    if opposite:
        raise AnswerUnusable("The server recorded another decision than the signed one.")
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
