"""Signed requests of servers, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from falcon.asgi import Request, Response

from relay.pushes.histories import Histories
from relay.pushes.service import Pushes
from relay.registration.servers import Servers
from relay.resources.signed_requests import SignedRequests, signed_head
from sigil.protocol.messages import decoding
from sigil.protocol.messages.relay import (
    MAX_PUSH_BODY,
    HistoryRequest,
    OutcomesRequest,
    PushRequest,
    RegisterServer,
)
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import read_body, require_json
from sigil.serving.http.responses import write_json

if TYPE_CHECKING:
    from relay.tracing import PushTraces

_MAX_OUTCOMES_BODY = 256 * 1024
"""Twice the 500 keys of 200 characters."""
_MAX_REGISTRATION_BODY = 4 * 1024
_MAX_HISTORY_BODY = 1024


class ServerRegistrationResource:
    """`POST /servers/register`; `failures` limits the failed requests of an address, as in `requests`."""

    def __init__(self, servers: Servers, requests: SignedRequests, failures: AddressRateLimit) -> None:
        self._servers = servers
        self._requests = requests
        self._failures = failures

    async def on_post(self, req: Request, resp: Response) -> None:
        head = signed_head(req)
        with self._requests.observing(req, head), self._failures.charging(req) as charged:
            await self._requests.check(req, head, charged)
            body = await read_body(req, _MAX_REGISTRATION_BODY)
            require_json(req)
            request = decoding.decode(body, RegisterServer)
            registered = await self._servers.register(request, head, body)
        self._requests.verified(req, head)
        write_json(resp, registered)


class PushesResource:
    """`POST /push`"""

    def __init__(self, requests: SignedRequests, pushes: Pushes, traces: PushTraces | None) -> None:
        self._requests = requests
        self._pushes = pushes
        self._traces = traces

    async def on_post(self, req: Request, resp: Response) -> None:
        server_id, body = await self._requests.authenticate(req, MAX_PUSH_BODY)
        with self._requests.observing(req, signed_head(req)):
            require_json(req)
            request = decoding.decode(body, PushRequest)
            if self._traces is not None:
                self._traces.batch(req, request.pushes)
            write_json(resp, await self._pushes.push(server_id, request))


class PushOutcomesResource:
    """`POST /push/outcomes`"""

    def __init__(self, requests: SignedRequests, pushes: Pushes) -> None:
        self._requests = requests
        self._pushes = pushes

    async def on_post(self, req: Request, resp: Response) -> None:
        server_id, body = await self._requests.authenticate(req, _MAX_OUTCOMES_BODY)
        with self._requests.observing(req, signed_head(req)):
            require_json(req)
            request = decoding.decode(body, OutcomesRequest)
        write_json(resp, await self._pushes.outcomes(server_id, request.push_keys))


class PushHistoryResource:
    """`POST /push/history`"""

    def __init__(self, requests: SignedRequests, histories: Histories) -> None:
        self._requests = requests
        self._histories = histories

    async def on_post(self, req: Request, resp: Response) -> None:
        server_id, body = await self._requests.authenticate(req, _MAX_HISTORY_BODY)
        with self._requests.observing(req, signed_head(req)):
            require_json(req)
            request = decoding.decode(body, HistoryRequest)
        write_json(resp, await self._histories.read(server_id, request.fingerprint))
