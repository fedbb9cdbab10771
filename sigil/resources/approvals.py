"""Approval requests over HTTP: for integrators with an API key, for devices with a signature."""

from __future__ import annotations

from falcon.asgi import Request, Response

from sigil.approvals.service import Approvals
from sigil.protocol.messages.approvals import MAX_BODY, CreateMpa, RespondMpa
from sigil.resources.api_key_auth import ApiKeyAuth
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body, whole_number
from sigil.serving.http.responses import write_json
from sigil.serving.tracing.current import trace_of
from sigil.sessions.long_polls import MAX_WAIT_SECONDS


class ApprovalRequestsResource:
    """`POST /mpa/request`"""

    def __init__(self, approvals: Approvals, api_key_auth: ApiKeyAuth) -> None:
        self._approvals = approvals
        self._api_key_auth = api_key_auth

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req, MAX_BODY)
        caller = self._api_key_auth.authenticate(req)
        wanted = decode_json(req, body, CreateMpa)
        created, repeated = await self._approvals.request(caller, wanted, body, trace_of(req))
        write_json(resp, created, 200 if repeated else 201)


class ApprovalRequestResource:
    """`DELETE /mpa/request/{request_id}`"""

    def __init__(self, approvals: Approvals, api_key_auth: ApiKeyAuth) -> None:
        self._approvals = approvals
        self._api_key_auth = api_key_auth

    async def on_delete(self, req: Request, resp: Response, request_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        write_json(resp, await self._approvals.cancel(caller, request_id, trace_of(req)))


class ApprovalStatusResource:
    """`GET /mpa/status/{request_id}?wait=0..25`"""

    def __init__(self, approvals: Approvals, api_key_auth: ApiKeyAuth) -> None:
        self._approvals = approvals
        self._api_key_auth = api_key_auth

    async def on_get(self, req: Request, resp: Response, request_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        wait = whole_number(req, "wait", low=0, high=MAX_WAIT_SECONDS, default=0)
        write_json(resp, await self._approvals.status(caller, request_id, wait))

    on_head = on_get


class ApprovalResponseResource:
    """`POST /mpa/respond`"""

    def __init__(self, approvals: Approvals, rate_limit: AddressRateLimit) -> None:
        self._approvals = approvals
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            response = decode_json(req, body, RespondMpa)
            charged.about(response.mpa_id.lower(), response.device_public_key or response.fingerprint or "")
            answered = await self._approvals.answer(response, trace_of(req))
        write_json(resp, answered)
