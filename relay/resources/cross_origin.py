"""CORS for the routes of devices: an authenticator in a browser is a page of another origin than the relay.

Any origin may call them. Nothing in a request is a credential of the browser (no cookie, no Authorization): the
signature of the device is the proof, and a page that has it could send it from anywhere.
"""

from __future__ import annotations

import falcon.asgi

ROUTES = frozenset({"/devices/register/challenge", "/devices/register", "/devices/unregister"})
_DAY = "86400"


class CrossOriginMiddleware:
    """Also on errors: without the header a page could not read them. No other route gets it."""

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, _succeeded: bool
    ) -> None:
        if req.uri_template not in ROUTES:
            return
        resp.set_header("Access-Control-Allow-Origin", "*")
        # A page corrects its clock by the one, and waits as long as the other asks for.
        resp.set_header("Access-Control-Expose-Headers", "Date, Retry-After")


class Preflight:
    """The answer to the preflight of a browser, for a resource of ROUTES."""

    async def on_options(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.status_code = 204
        resp.set_header("Access-Control-Allow-Methods", "GET, POST")
        resp.set_header("Access-Control-Allow-Headers", "content-type")
        resp.set_header("Access-Control-Max-Age", _DAY)
