"""The client's calls about challenges, as operations without I/O."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sigil.sdk.errors import AnswerUnusable, NotFound, ResultTimeout
from sigil.sdk.http.clock import Clock
from sigil.sdk.http.polling import Polling
from sigil.sdk.http.responses import parse_result
from sigil.sdk.http.retry import Request, RetryPolicy, send_with_retries
from sigil.sdk.http.sans_io import Operation
from sigil.sdk.http.trace_context import with_traceparent
from sigil.sdk.request_bodies import challenge_body, check_idempotency_key
from sigil.sdk.results import Action, Challenge, ChallengeStatus

LONGEST_LIFE = 330.0
"""A challenge lives 300 s at most. After this time the client stops, even if the server's clock does not move."""
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Challenges:
    retry: RetryPolicy
    clock: Clock

    def create(
        self,
        device_public_key: str,
        action: Action | Mapping[str, Any],
        *,
        expires_in_seconds: int | None,
        number_matching: bool | None,
        fingerprint: str | None,
        idempotency_key: str | None,
        traceparent: str | None,
    ) -> Operation[Challenge]:
        body = challenge_body(
            device_public_key,
            action,
            expires_in_seconds=expires_in_seconds,
            number_matching=number_matching,
            fingerprint=fingerprint,
        )
        key = secrets.token_urlsafe(24) if idempotency_key is None else check_idempotency_key(idempotency_key)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        request = Request("POST", "/challenge", body, with_traceparent(headers, traceparent))
        response = yield from send_with_retries(request, self.retry, self.clock)
        return parse_result(response, 201, Challenge)

    def status(self, challenge_id: str) -> Operation[ChallengeStatus]:
        return self._fetch(challenge_id, Request("GET", f"{_path(challenge_id)}/status"), self.retry)

    def cancel(self, challenge_id: str) -> Operation[ChallengeStatus]:
        return self._fetch(challenge_id, Request("DELETE", _path(challenge_id)), self.retry)

    def result(self, challenge_id: str, timeout: float | None) -> Operation[ChallengeStatus]:
        """Long polls until the challenge has ended; ResultTimeout when the caller's timeout ends first."""

        def poll(wait: int, retry: RetryPolicy) -> Operation[ChallengeStatus]:
            request = Request("GET", f"{_path(challenge_id)}/status?wait={wait}", wait=wait)
            return self._fetch(challenge_id, request, retry)

        def timeout_error(last: ChallengeStatus | None, reason: str) -> ResultTimeout:
            error = ResultTimeout(f"The challenge had no result within the given time.{reason}")
            error.challenge_id, error.last = challenge_id, last
            return error

        seconds = LONGEST_LIFE if timeout is None else timeout
        return Polling(self.retry, self.clock).until_final(poll, seconds, timeout_error)

    def _fetch(self, challenge_id: str, request: Request, retry: RetryPolicy) -> Operation[ChallengeStatus]:
        response = yield from send_with_retries(request, retry, self.clock)
        status = parse_result(response, 200, ChallengeStatus)
        if status.challenge_id != challenge_id.lower():
            # A cache that mixes up responses would approve one action with the approval of another.
            raise AnswerUnusable("The server responded about another challenge.", status=response.status)
        return status


def _path(challenge_id: str) -> str:
    """NotFound for a malformed id: it may come from a form, and must not reach another address of the server."""
    if not (isinstance(challenge_id, str) and _ID.match(challenge_id)):
        raise NotFound("That is not the id of a challenge.", code="CHALLENGE_NOT_FOUND")
    return f"/v1/auth/challenge/{challenge_id.lower()}"
