"""Falcon middleware for every response of a service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import falcon.asgi

from sigil.serving.http.asgi_edge import Body, request_id

if TYPE_CHECKING:
    # Not at run time: the master may import this module, and only workers may import metrics (see `metrics_memory`).
    from sigil.serving.http.metrics import HttpMetrics

_HSTS = "max-age=31536000"


class ResponseMiddleware:
    """Adds the request id and HSTS, announces the end of a connection, and counts HTTP metrics if they are enabled.

    `hsts`: browsers shall use only https from now on (RFC 6797), for this host name alone.
    """

    def __init__(self, http: HttpMetrics | None, *, hsts: bool = False) -> None:
        self._observe = http.observe if http else None
        self._hsts = hsts

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        resp.set_header("X-Request-Id", request_id.get())
        resp.set_header("Server", "")
        if self._hsts:
            resp.set_header("Strict-Transport-Security", _HSTS)
        body: Body = req.scope["sigil.body"]
        # The HTTP server closes a connection whose request body was not read to its end. Without this header the
        # client would send its next request into the closed connection.
        if not body.complete and _has_body(req) and req.scope["http_version"].startswith("1"):
            resp.set_header("Connection", "close")
        if self._observe:
            seconds = time.perf_counter() - req.scope["sigil.began"]
            self._observe(req.method, req.uri_template, resp.status_code, seconds)


def _has_body(req: falcon.asgi.Request) -> bool:
    return req.get_header("CONTENT-LENGTH") not in {None, "0"} or req.get_header("TRANSFER-ENCODING") is not None
