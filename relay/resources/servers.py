"""Signed requests of servers, over HTTP."""

from __future__ import annotations

from falcon.asgi import Request, Response

from relay.pushes.service import Pushes
from relay.registration.servers import Servers, SignedRequest
from sigil.protocol.errors import UnsupportedMediaType
from sigil.protocol.messages import decoding
from sigil.protocol.messages.relay import MAX_PUSH_BODY, OutcomesRequest, PushRequest, RegisterServer
from sigil.serving.http.requests import is_json, read_body
from sigil.serving.http.responses import write_json


def signed_request(req: Request, body: bytes) -> SignedRequest:
    """The request as its server signed it: the target is that of the request line."""
    query = req.scope["query_string"]
    target = req.scope["raw_path"] + (b"?" + query if query else b"")
    return SignedRequest(
        method=req.method,
        target=target.decode("latin-1"),
        body=body,
        server_id=req.get_header("X-SIGIL-SERVER-ID") or "",
        timestamp=req.get_header("X-SIGIL-TIMESTAMP") or "",
        nonce=req.get_header("X-SIGIL-NONCE") or "",
        signature=req.get_header("X-SIGIL-REQUEST-SIGNATURE") or "",
    )


def _require_json(req: Request) -> None:
    if not is_json(req):
        raise UnsupportedMediaType


class ServerRegistrationResource:
    """`POST /servers/register`"""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req)
        _require_json(req)
        request = decoding.decode(body, RegisterServer)
        write_json(resp, await self._servers.register(request, signed_request(req, body)))


class PushesResource:
    """`POST /push`"""

    def __init__(self, servers: Servers, pushes: Pushes) -> None:
        self._servers = servers
        self._pushes = pushes

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req, MAX_PUSH_BODY)
        server_id = await self._servers.authenticate(signed_request(req, body))
        _require_json(req)
        write_json(resp, await self._pushes.push(server_id, decoding.decode(body, PushRequest)))


class PushOutcomesResource:
    """`POST /push/outcomes`"""

    def __init__(self, servers: Servers, pushes: Pushes) -> None:
        self._servers = servers
        self._pushes = pushes

    async def on_post(self, req: Request, resp: Response) -> None:
        body = await read_body(req, MAX_PUSH_BODY)
        server_id = await self._servers.authenticate(signed_request(req, body))
        _require_json(req)
        request = decoding.decode(body, OutcomesRequest)
        write_json(resp, await self._pushes.outcomes(server_id, request.push_keys))
