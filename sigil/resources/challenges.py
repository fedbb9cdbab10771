"""Challenges over HTTP: for integrators with an API key, for devices with a signature."""

from __future__ import annotations

from falcon.asgi import Request, Response

from sigil.challenges.service import Challenges
from sigil.protocol.messages.challenges import CreateChallenge, Respond
from sigil.resources.api_key_auth import ApiKeyAuth
from sigil.resources.idempotency import idempotency
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body, whole_number
from sigil.serving.http.responses import write_json
from sigil.serving.tracing.current import trace_of
from sigil.sessions.long_polls import MAX_WAIT_SECONDS


class ChallengesResource:
    """`POST /challenge`"""

    def __init__(self, challenges: Challenges, api_key_auth: ApiKeyAuth) -> None:
        self._challenges = challenges
        self._api_key_auth = api_key_auth

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req)
        caller = self._api_key_auth.authenticate(req)
        wanted = decode_json(req, body, CreateChallenge)
        created, replayed = await self._challenges.issue(caller, wanted, idempotency(req, body), trace_of(req))
        write_json(resp, created, 201)
        if replayed:
            resp.set_header("Idempotent-Replayed", "true")


class ChallengeResource:
    """`DELETE /v1/auth/challenge/{challenge_id}`"""

    def __init__(self, challenges: Challenges, api_key_auth: ApiKeyAuth) -> None:
        self._challenges = challenges
        self._api_key_auth = api_key_auth

    async def on_delete(self, req: Request, resp: Response, challenge_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        write_json(resp, await self._challenges.cancel(caller, challenge_id, trace_of(req)))


class ChallengeStatusResource:
    """`GET /v1/auth/challenge/{challenge_id}/status?wait=0..25`"""

    def __init__(self, challenges: Challenges, api_key_auth: ApiKeyAuth) -> None:
        self._challenges = challenges
        self._api_key_auth = api_key_auth

    async def on_get(self, req: Request, resp: Response, challenge_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        wait = whole_number(req, "wait", low=0, high=MAX_WAIT_SECONDS, default=0)
        write_json(resp, await self._challenges.status(caller, challenge_id, wait))

    on_head = on_get


class ChallengeResponseResource:
    """`POST /respond`"""

    def __init__(self, challenges: Challenges, rate_limit: AddressRateLimit) -> None:
        self._challenges = challenges
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            response = decode_json(req, body, Respond)
            charged.about(response.challenge_id.lower())
            answered = await self._challenges.answer(response, trace_of(req))
        write_json(resp, answered)
