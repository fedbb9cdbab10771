"""`GET /health`"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from falcon.asgi import Request, Response

from sigil.serving.http.responses import write_json


class HealthResource:
    """`fault` returns the reason why the relay is unhealthy, or None."""

    def __init__(self, version: str, fault: Callable[[], Awaitable[str | None]]) -> None:
        self._version = version
        self._fault = fault

    async def on_get(self, _req: Request, resp: Response) -> None:
        fault = await self._fault()
        health = {"status": "healthy" if fault is None else "unhealthy", "version": self._version}
        if fault is not None:
            write_json(resp, {**health, "details": {"reason": fault}}, 503)
        else:
            write_json(resp, health)

    on_head = on_get
