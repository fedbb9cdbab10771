"""Health of the server, and its identity for devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import falcon
import msgspec
from falcon.asgi import Request, Response

from sigil.protocol.messages.first_boot import InfoBeforeInit
from sigil.protocol.messages.server import Health, Info, Mode
from sigil.serving.http.rate_limits import AddressRateLimit

_encode = msgspec.json.Encoder().encode


class HealthResource:
    """`GET /health`; `fault` returns what is wrong, or None."""

    def __init__(self, version: str, fault: Callable[[], Awaitable[str | None]], mode: Mode = "operational") -> None:
        self._version = version
        self._fault = fault
        self._mode = mode

    async def on_get(self, _req: Request, resp: Response) -> None:
        fault = await self._fault()
        health = Health("healthy" if self._mode == "operational" else "initializing", self._mode, self._version)
        if fault is not None:
            resp.status_code = 503
            health = Health("unhealthy", self._mode, self._version, {"reason": fault})
        resp.data = _encode(health)
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", "no-store")

    on_head = on_get


class InfoResource:
    """`GET /info`: the identity that a device pins. Encoded once: it does not change while the server runs."""

    def __init__(self, info: Info | InfoBeforeInit, rate_limit: AddressRateLimit) -> None:
        self._answer = _encode(info)
        self._rate_limit = rate_limit

    async def on_get(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        resp.data = self._answer
        resp.content_type = falcon.MEDIA_JSON

    on_head = on_get
