"""The client's calls about enrolments, as operations without I/O."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Literal

from sigil.sdk.enrolment.begun import Enrolment
from sigil.sdk.enrolment.status import EnrolmentStatus
from sigil.sdk.errors import (
    AnswerUnusable,
    CertificateRefused,
    ConfigurationError,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    ResultTimeout,
    Retryable,
)
from sigil.sdk.http.clock import Clock
from sigil.sdk.http.polling import Polling
from sigil.sdk.http.responses import parse_result
from sigil.sdk.http.retry import Request, RetryPolicy, send_with_retries
from sigil.sdk.http.sans_io import Operation
from sigil.sdk.request_bodies import check_idempotency_key, encoded

LONGEST_LIFE = 930.0
"""An enrolment lives 900 s at most. After this time the client stops, even if the server's clock does not move."""
Until = Literal["claimed", "confirming", "enrolled"]
_ORDER = ("pending", "claimed", "confirming", "enrolled")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)
_CODE = re.compile(r"[0-9]{6}\Z", re.ASCII)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Enrolments:
    retry: RetryPolicy
    clock: Clock

    def begin(
        self,
        account: str,
        *,
        confirm: str | None,
        expires_in_seconds: int | None,
        replaces: str | None,
        min_level: str | None,
        idempotency_key: str | None,
    ) -> Operation[Enrolment]:
        texts = {"account": account, "confirm": confirm, "replaces": replaces, "min_level": min_level}
        for name, text in texts.items():
            # msgspec writes bytes and dates as strings of its own choice.
            if not isinstance(text, str) and (text is not None or name == "account"):
                raise InvalidRequest(f"{name} must be a string.", details={"path": f"$.{name}"})
        members = {**texts, "expires_in_seconds": expires_in_seconds}
        body = encoded({name: value for name, value in members.items() if value is not None})
        key = secrets.token_urlsafe(24) if idempotency_key is None else check_idempotency_key(idempotency_key)
        request = Request("POST", "/enrolment", body, {**_JSON, "Idempotency-Key": key})
        response = yield from send_with_retries(request, self.retry, self.clock)
        return parse_result(response, 201, Enrolment)

    def status(self, enrolment_id: str) -> Operation[EnrolmentStatus]:
        return self._fetch(enrolment_id, Request("GET", f"{_path(enrolment_id)}/status"), self.retry)

    def cancel(self, enrolment_id: str) -> Operation[EnrolmentStatus]:
        return self._fetch(enrolment_id, Request("DELETE", _path(enrolment_id)), self.retry)

    def result(self, enrolment_id: str, timeout: float | None, until: Until) -> Operation[EnrolmentStatus]:
        """Long polls until the enrolment has ended or come as far as `until`; ResultTimeout when the caller's timeout
        ends first.
        """
        if until not in _ORDER[1:]:
            raise ConfigurationError('until must be "claimed", "confirming" or "enrolled".')
        known = ""

        def poll(wait: int, retry: RetryPolicy) -> Operation[EnrolmentStatus]:
            # The server responds at once when the status is no longer the one that is known here.
            nonlocal known
            query = f"wait={wait}&known={known}" if known else "wait=0"
            request = Request("GET", f"{_path(enrolment_id)}/status?{query}", wait=wait)
            status = yield from self._fetch(enrolment_id, request, retry)
            known = status.status
            return status

        def reached(status: EnrolmentStatus) -> bool:
            return status.is_final or _ORDER.index(status.status) >= _ORDER.index(until)

        def timeout_error(last: EnrolmentStatus | None, reason: str) -> ResultTimeout:
            error = ResultTimeout(f"The enrolment had no result within the given time.{reason}")
            error.enrolment_id, error.last = enrolment_id, last
            return error

        seconds = LONGEST_LIFE if timeout is None else timeout
        return Polling(self.retry, self.clock).until_final(poll, seconds, timeout_error, reached)

    def confirm(self, enrolment_id: str, code: str) -> Operation[EnrolmentStatus]:
        """The server counts a wrong code each time it gets it. So a code whose response was lost is sent once more at
        most, and only while the status shows that it did not enrol the device.
        """
        path, end = _path(enrolment_id), self.clock.monotonic() + self.retry.seconds
        # No local variable holds the code when an error is raised: some tools print them with a traceback.
        request, code = Request("POST", f"{path}/confirm", _code_body(code), _JSON), ""
        if request.body is None:
            raise InvalidRequest("The code has six digits.", details={"path": "$.code"})
        try:
            return (yield from self._fetch(enrolment_id, request, self._until(end, tries=1)))
        except CertificateRefused:
            raise
        except (ConnectionFailed, Retryable):
            # What follows is not raised in here: the error would have this one as its context.
            pass
        check = Request("GET", f"{path}/status")
        status = yield from self._fetch(enrolment_id, check, self._until(end, self.retry.tries))
        if status.enrolled:
            return status
        # Also when it has ended: the server's own error says how.
        return (yield from self._fetch(enrolment_id, request, self._until(end, tries=1)))

    def _until(self, end: float, tries: int) -> RetryPolicy:
        return RetryPolicy(tries, max(0.001, end - self.clock.monotonic()))

    def _fetch(self, enrolment_id: str, request: Request, retry: RetryPolicy) -> Operation[EnrolmentStatus]:
        response = yield from send_with_retries(request, retry, self.clock)
        status = parse_result(response, 200, EnrolmentStatus)
        if status.enrolment_id != enrolment_id.lower():
            # A cache that mixes up responses would store one person's key for another.
            raise AnswerUnusable("The server responded about another enrolment.", status=response.status)
        return status


def _code_body(code: object) -> bytes | None:
    """With six digits, without the blanks and hyphens that people type. None for anything else: it costs no attempt."""
    digits = re.sub(r"[\s-]", "", code) if isinstance(code, str) else ""
    return encoded({"code": digits}) if _CODE.match(digits) else None


def _path(enrolment_id: str) -> str:
    """NotFound for a malformed id: it may come from a form, and must not reach another address of the server."""
    if not (isinstance(enrolment_id, str) and _ID.match(enrolment_id)):
        raise NotFound("That is not the id of an enrolment.", code="ENROLMENT_NOT_FOUND")
    return f"/enrolment/{enrolment_id.lower()}"
