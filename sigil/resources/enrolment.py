"""Enrolments over HTTP: for integrators with an API key, for devices with a token and then a claim_id."""

from __future__ import annotations

from typing import get_args

from falcon.asgi import Request, Response

from sigil.enrolment.service import Enrolments
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.enrolment import (
    BeginEnrolment,
    ClaimEnrolment,
    CompleteEnrolment,
    ConfirmEnrolment,
    EnrolmentState,
    WaitForEnrolment,
)
from sigil.protocol.origin import NotAnOrigin, server_origin
from sigil.resources.api_key_auth import ApiKeyAuth
from sigil.resources.idempotency import idempotency
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body, whole_number
from sigil.serving.http.responses import write_json
from sigil.serving.tracing.current import trace_of
from sigil.sessions.long_polls import MAX_WAIT_SECONDS


class EnrolmentsResource:
    """`POST /enrolment`; `scheme` is that of this server's own port."""

    def __init__(self, enrolments: Enrolments, api_key_auth: ApiKeyAuth, scheme: str) -> None:
        self._enrolments = enrolments
        self._api_key_auth = api_key_auth
        self._scheme = scheme

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req)
        caller = self._api_key_auth.authenticate(req)
        wanted = decode_json(req, body, BeginEnrolment)
        begun, replayed = await self._enrolments.begin(
            caller, wanted, idempotency(req, body), trace_of(req), origin=self._origin(req)
        )
        write_json(resp, begun, 201)
        if replayed:
            resp.set_header("Idempotent-Replayed", "true")

    def _origin(self, req: Request) -> str | None:
        """The address that the caller with its API key used, where a device may use it too."""
        try:
            return server_origin(f"{self._scheme}://{req.get_header('HOST') or ''}")
        except NotAnOrigin:
            return None


class EnrolmentResource:
    """`DELETE /enrolment/{enrolment_id}`"""

    def __init__(self, enrolments: Enrolments, api_key_auth: ApiKeyAuth) -> None:
        self._enrolments = enrolments
        self._api_key_auth = api_key_auth

    async def on_delete(self, req: Request, resp: Response, enrolment_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        write_json(resp, await self._enrolments.cancel(caller, enrolment_id, trace_of(req)))


class EnrolmentStatusResource:
    """`GET /enrolment/{enrolment_id}/status?wait=0..25&known=STATUS`"""

    def __init__(self, enrolments: Enrolments, api_key_auth: ApiKeyAuth) -> None:
        self._enrolments = enrolments
        self._api_key_auth = api_key_auth

    async def on_get(self, req: Request, resp: Response, enrolment_id: str) -> None:
        caller = self._api_key_auth.authenticate(req)
        wait = whole_number(req, "wait", low=0, high=MAX_WAIT_SECONDS, default=0)
        write_json(resp, await self._enrolments.status(caller, enrolment_id, wait, _known(req)))

    on_head = on_get


def _known(req: Request) -> EnrolmentState | None:
    texts = req.get_param_as_list("known")
    if not texts:
        return None
    for state in get_args(EnrolmentState):
        if texts == [state]:
            return state  # type: ignore[no-any-return]
    raise InvalidRequest(f"known must be one of {', '.join(get_args(EnrolmentState))}, once.", path="known")


class EnrolmentConfirmationResource:
    """`POST /enrolment/{enrolment_id}/confirm`"""

    def __init__(self, enrolments: Enrolments, api_key_auth: ApiKeyAuth) -> None:
        self._enrolments = enrolments
        self._api_key_auth = api_key_auth

    async def on_post(self, req: Request, resp: Response, enrolment_id: str) -> None:
        body = await read_body(req)
        caller = self._api_key_auth.authenticate(req)
        confirmation = decode_json(req, body, ConfirmEnrolment)
        write_json(resp, await self._enrolments.confirm(caller, enrolment_id, confirmation.code, trace_of(req)))


class EnrolmentClaimResource:
    """`POST /enrolment/claim`: a token that does not exist is charged to the address, and causes no write."""

    def __init__(self, enrolments: Enrolments, rate_limit: AddressRateLimit) -> None:
        self._enrolments = enrolments
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            claim = decode_json(req, body, ClaimEnrolment)
            offered = await self._enrolments.claim(claim, trace_of(req))
            charged.repeatable()
        write_json(resp, offered)


class EnrolmentCompletionResource:
    """`POST /enrolment/complete`"""

    def __init__(self, enrolments: Enrolments, rate_limit: AddressRateLimit) -> None:
        self._enrolments = enrolments
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            completion = decode_json(req, body, CompleteEnrolment)
            charged.about("enrolment", completion.enrolment_id.lower())
            completed = await self._enrolments.complete(completion, trace_of(req))
            charged.repeatable()
        write_json(resp, completed)


class EnrolmentWaitResource:
    """`POST /enrolment/wait`"""

    def __init__(self, enrolments: Enrolments, rate_limit: AddressRateLimit) -> None:
        self._enrolments = enrolments
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            request = decode_json(req, body, WaitForEnrolment)
            waited = await self._enrolments.wait(request)
            charged.repeatable()
        write_json(resp, waited)
