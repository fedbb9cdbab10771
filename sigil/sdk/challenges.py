"""What a client can do with challenges, as conversations."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sigil.sdk.clock import Clock
from sigil.sdk.errors import AnswerUnusable, NotFound, ResultTimeout
from sigil.sdk.polling import Polling
from sigil.sdk.request_bodies import challenge_body, checked_idempotency_key
from sigil.sdk.responses import result
from sigil.sdk.results import Action, Challenge, ChallengeStatus
from sigil.sdk.retry import Request, RetryPolicy, ask
from sigil.sdk.sans_io import Operation

LONGEST_LIFE = 330.0
"""A challenge lives 300 s at most; after this even a server whose clock stands still is not waited for."""
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Challenges:
    patience: RetryPolicy
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
    ) -> Operation[Challenge]:
        body = challenge_body(
            device_public_key,
            action,
            expires_in_seconds=expires_in_seconds,
            number_matching=number_matching,
            fingerprint=fingerprint,
        )
        key = secrets.token_urlsafe(24) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        reply = yield from ask(Request("POST", "/challenge", body, headers), self.patience, self.clock)
        return result(reply, 201, Challenge)

    def status(self, challenge_id: str) -> Operation[ChallengeStatus]:
        return self._one(challenge_id, Request("GET", f"{_target(challenge_id)}/status"), self.patience)

    def cancel(self, challenge_id: str) -> Operation[ChallengeStatus]:
        return self._one(challenge_id, Request("DELETE", _target(challenge_id)), self.patience)

    def result(self, challenge_id: str, timeout: float | None) -> Operation[ChallengeStatus]:
        """Long polls until the challenge has ended; ResultTimeout when the caller's time is over first."""

        def look(wait: int, patience: RetryPolicy) -> Operation[ChallengeStatus]:
            request = Request("GET", f"{_target(challenge_id)}/status?wait={wait}", wait=wait)
            return self._one(challenge_id, request, patience)

        def late(last: ChallengeStatus | None, more: str) -> ResultTimeout:
            error = ResultTimeout(f"The challenge had no result within the given time.{more}")
            error.challenge_id, error.last = challenge_id, last
            return error

        return Polling(self.patience, self.clock).until_final(look, LONGEST_LIFE if timeout is None else timeout, late)

    def _one(self, challenge_id: str, request: Request, patience: RetryPolicy) -> Operation[ChallengeStatus]:
        reply = yield from ask(request, patience, self.clock)
        status = result(reply, 200, ChallengeStatus)
        if status.challenge_id != challenge_id.lower():
            # A cache that mixes answers up would approve one thing with the approval of another.
            raise AnswerUnusable("The server answered about another challenge.", status=reply.status)
        return status


def _target(challenge_id: str) -> str:
    """NotFound for what is no id: it may come from a form, and must not reach another address of the server."""
    if not _ID.match(challenge_id):
        raise NotFound("That is not the id of a challenge.", code="CHALLENGE_NOT_FOUND")
    return f"/v1/auth/challenge/{challenge_id.lower()}"
