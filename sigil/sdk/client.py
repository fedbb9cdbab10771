"""The synchronous client."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from sigil.protocol.messages.attestation import Level
from sigil.sdk.approval_results import MpaRequest, MpaStatus
from sigil.sdk.audit.votes import verify_votes
from sigil.sdk.base_client import BaseClient, ClientParts
from sigil.sdk.enrolment.begun import Enrolment
from sigil.sdk.enrolment.operations import Until
from sigil.sdk.enrolment.status import EnrolmentStatus
from sigil.sdk.http.deadline import deadline
from sigil.sdk.http.sans_io import Operation, Outcome, Pause, ResponseReader, Send
from sigil.sdk.results import Action, Challenge, ChallengeStatus

T = TypeVar("T")


class SigilAuth(BaseClient):
    """A backend's connection to its Sigil server; threads may share it. `with`, or `close()` at the end.

    A process that was forked opens connections of its own: two processes on one TLS connection would read each other's
    responses.
    """

    def _open(self, parts: ClientParts) -> None:
        self._parts = parts
        self._http: dict[int, httpx.Client] = {}
        self.auth = Auth(self)
        self.mpa = Mpa(self)
        self.enrolment = Enrolments(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        if http := self._http.get(os.getpid()):
            http.close()

    def _own_http(self) -> httpx.Client:
        """Of this process. A lock could be held by a thread of the parent at the fork; `setdefault` needs none."""
        process = os.getpid()
        return self._http.get(process) or self._http.setdefault(
            process, httpx.Client(**self._parts.http.client_options())
        )

    def _run(self, operation: Operation[T]) -> T:
        outcome: Outcome | None = None
        while True:
            self._require_open()
            try:
                step = operation.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = self._execute(step)

    def _execute(self, step: Send | Pause) -> Outcome | None:
        if isinstance(step, Pause):
            self._parts.clock.sleep(step.seconds)
            return None
        http = self._parts.http
        try:
            with deadline(step.seconds), self._own_http().stream(**http.stream_options(step)) as response:
                reader = ResponseReader(response.status_code, response.headers)
                for chunk in response.iter_raw():
                    if not reader.feed(chunk):
                        break
            return http.outcome_of(reader)
        except Exception as error:
            return http.failure_of(error)


class Auth:
    """`SigilAuth.auth`. Every method raises SigilError."""

    def __init__(self, client: SigilAuth) -> None:
        self._run, self._challenges = client._run, client._parts.challenges

    def create_challenge(
        self,
        device_public_key: str,
        action: Action | Mapping[str, Any],
        *,
        expires_in_seconds: int | None = None,
        number_matching: bool | None = None,
        fingerprint: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Challenge:
        """Create a challenge: request a device's approval of an action.

        device_public_key: base64, as the device gave it at enrolment. expires_in_seconds: 30..300, else 300.
        number_matching: show `match_code` to the person, who types it on the device. fingerprint: checked against
        the key. idempotency_key: 1..255 visible ASCII characters. By default each call makes one and keeps it over its
        retries, so that they create one challenge. Pass your own to create one challenge over several calls.
        traceparent: of W3C Trace Context, in place of the current OpenTelemetry span; a malformed one is ignored.
        """
        return self._run(
            self._challenges.create(
                device_public_key,
                action,
                expires_in_seconds=expires_in_seconds,
                number_matching=number_matching,
                fingerprint=fingerprint,
                idempotency_key=idempotency_key,
                traceparent=traceparent,
            )
        )

    def get_status(self, challenge_id: str) -> ChallengeStatus:
        """The current status. NotFound from 10 minutes after the challenge has ended."""
        return self._run(self._challenges.status(challenge_id))

    def await_result(self, challenge_id: str, timeout: float | None = None) -> ChallengeStatus:
        """Wait until the challenge has ended; act on `.verified`.

        timeout: seconds, None for as long as a challenge can live. ResultTimeout, with the last status as `.last`,
        is raised at most two seconds after it.
        """
        return self._run(self._challenges.result(challenge_id, timeout))

    def cancel(self, challenge_id: str) -> ChallengeStatus:
        """Cancel a pending challenge; may be repeated. Conflict when it has another final state."""
        return self._run(self._challenges.cancel(challenge_id))


class Mpa:
    """`SigilAuth.mpa`: several groups of devices decide together. Every method raises SigilError."""

    verify_votes = staticmethod(verify_votes)

    def __init__(self, client: SigilAuth) -> None:
        self._run, self._approvals = client._run, client._parts.approvals

    def request(
        self,
        action: Action | Mapping[str, Any],
        groups: Sequence[Sequence[str]],
        required: int,
        *,
        request_id: str | None = None,
        reject_policy: str | None = None,
        expires_in_seconds: int | None = None,
        traceparent: str | None = None,
    ) -> MpaRequest:
        """Request the approval of groups of devices: one device of each of `required` groups must approve.

        groups: 1..20 lists of 1..50 device_public_key, each device once. request_id: your name for the request, 1..128
        of A-Z a-z 0-9 . _ : -; the same name with the same content returns the same request. By default each call makes
        one and keeps it over its retries. reject_policy: "continue" (rejected when too few groups are left) or
        "reject_on_first". expires_in_seconds: 60..900, else 300. traceparent: as with `Auth.create_challenge`.
        """
        return self._run(
            self._approvals.request(
                action,
                groups,
                required,
                request_id=request_id,
                reject_policy=reject_policy,
                expires_in_seconds=expires_in_seconds,
                traceparent=traceparent,
            )
        )

    def get_status(self, request_id: str) -> MpaStatus:
        """The current status, with all votes. NotFound from a day after the request has ended."""
        return self._run(self._approvals.status(request_id))

    def await_result(self, request_id: str, timeout: float | None = None) -> MpaStatus:
        """Wait until the request has ended; act on `.approved`.

        timeout: seconds, None for as long as a request can live. ResultTimeout as with `Auth.await_result`.
        """
        return self._run(self._approvals.result(request_id, timeout))

    def cancel(self, request_id: str) -> MpaStatus:
        """Cancel a pending request; may be repeated. Conflict when it has another final state."""
        return self._run(self._approvals.cancel(request_id))


class Enrolments:
    """`SigilAuth.enrolment`: a person adds a device (docs/enrolling.md). Every method raises SigilError."""

    def __init__(self, client: SigilAuth) -> None:
        self._run, self._enrolments = client._run, client._parts.enrolments

    def begin(
        self,
        account: str,
        *,
        confirm: Literal["code", "none"] | None = None,
        expires_in_seconds: int | None = None,
        replaces: str | None = None,
        min_level: Level | None = None,
        idempotency_key: str | None = None,
    ) -> Enrolment:
        """Begin an enrolment; show its QR code, or its link and token, to the signed-in person.

        account: 1..128 characters, which the device shows. confirm: "code" (default), or "none" where the server
        permits it. expires_in_seconds: 60..900, else 600. replaces: the old device_public_key when one device changes
        its key. min_level: attestation that the device must have at least. idempotency_key: as with
        `Auth.create_challenge`.
        """
        return self._run(
            self._enrolments.begin(
                account,
                confirm=confirm,
                expires_in_seconds=expires_in_seconds,
                replaces=replaces,
                min_level=min_level,
                idempotency_key=idempotency_key,
            )
        )

    def get_status(self, enrolment_id: str) -> EnrolmentStatus:
        """The current status. NotFound from 10 minutes after the enrolment has ended."""
        return self._run(self._enrolments.status(enrolment_id))

    def await_result(
        self, enrolment_id: str, timeout: float | None = None, until: Until = "enrolled"
    ) -> EnrolmentStatus:
        """Wait until the enrolment has ended, or with until="claimed" until a phone has it, or "confirming" until its
        code can be confirmed; act on `.enrolled`.

        timeout: seconds, None for as long as an enrolment can live. ResultTimeout as with `Auth.await_result`.
        """
        return self._run(self._enrolments.result(enrolment_id, timeout, until))

    def confirm(self, enrolment_id: str, code: str) -> EnrolmentStatus:
        """Confirm the six digits that the person reads from their device; then `.enrolled` holds.

        WrongCode with `.attempts_left`; Conflict when the enrolment does not wait for a code, also as Expired. The
        right code may be sent again.
        """
        # Tracebacks may show local variables.
        operation, code = self._enrolments.confirm(enrolment_id, code), ""
        return self._run(operation)

    def cancel(self, enrolment_id: str) -> EnrolmentStatus:
        """Cancel an enrolment; may be repeated. Conflict when it has another final state."""
        return self._run(self._enrolments.cancel(enrolment_id))
