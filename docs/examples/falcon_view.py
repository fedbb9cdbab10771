"""Falcon (ASGI): a transfer happens when its owner's device has approved it.

    PUT  /device {"device_public_key": "…"}      -> 204: enrols the user's device
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/{id}                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface asgi falcon_view:app`
"""

from __future__ import annotations

import logging
import os
from typing import Any

import falcon.asgi

from sigil.sdk import (
    Action,
    AsyncSigilAuth,
    InvalidRequest,
    NotFound,
    RateLimited,
    ResultTimeout,
    SigilError,
    WebhookRefused,
    webhooks,
)

log = logging.getLogger(__name__)

# Your database: the device of each user, and the transfers that wait for an approval.
DEVICES: dict[str, str] = {}
TRANSFERS: dict[str, dict[str, Any]] = {}


def current_user(req: falcon.asgi.Request) -> str:
    """Your session's user."""
    return req.get_header("X-User", required=True)


class Sigil:
    """One client for the event loop, opened and closed with the application."""

    client: AsyncSigilAuth

    async def process_startup(self, scope: object, event: object) -> None:
        self.client = AsyncSigilAuth()

    async def process_shutdown(self, scope: object, event: object) -> None:
        await self.client.aclose()


async def body_with(req: falcon.asgi.Request, **members: type) -> dict[str, Any]:
    """The JSON body, if it has these members; HTTPBadRequest."""
    body = await req.get_media()
    for name, kind in members.items():
        if not isinstance(body, dict) or type(body.get(name)) is not kind:
            raise falcon.HTTPBadRequest(description=f"{name} must be of type {kind.__name__}.")
    return {name: body[name] for name in members}


class Devices:
    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        # Yours needs more than a session: a second factor, or the device that is enrolled already.
        DEVICES[current_user(req)] = (await body_with(req, device_public_key=str))["device_public_key"]
        resp.status = falcon.HTTP_204


class Transfers:
    def __init__(self, sigil: Sigil) -> None:
        self._sigil = sigil

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        user, wanted = current_user(req), await body_with(req, to=str, amount=int)
        if user not in DEVICES:
            raise falcon.HTTPConflict(description="No device is enrolled: PUT /device.")
        action = Action("payment", f"Pay {wanted['amount']} € to {wanted['to']}", wanted)
        challenge = await self._sigil.client.auth.create_challenge(DEVICES[user], action, number_matching=True)
        # Store the action here and do not read it from the browser again: this is what the person approves.
        TRANSFERS[challenge.challenge_id] = {"user": user, "wanted": wanted, "state": "waiting"}
        resp.status = falcon.HTTP_202
        resp.media = {
            "id": challenge.challenge_id,
            "match_code": challenge.match_code,
            "pictogram": "".join(challenge.pictogram),
        }

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, number: str) -> None:
        transfer = TRANSFERS.get(number)
        if transfer is None or transfer["user"] != current_user(req):
            raise falcon.HTTPNotFound
        if transfer["state"] == "waiting":
            await self._resolve(number, transfer)
        resp.media = {"state": transfer["state"]}

    async def _resolve(self, number: str, transfer: dict[str, Any]) -> None:
        try:
            status = await self._sigil.client.auth.await_result(number, timeout=10)
        except ResultTimeout:
            return
        except NotFound:
            transfer["state"] = "refused"
            return
        # If two requests see the end, only one moves the money. With a database: UPDATE … WHERE state = 'waiting'.
        if transfer["state"] == "waiting":
            transfer["state"] = "done" if status.verified else "refused"


class Webhooks:
    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        try:
            event = webhooks.verify(req.headers, await req.stream.read(), os.environ.get("WEBHOOK_SECRET", ""))
        except WebhookRefused as error:
            raise falcon.HTTPBadRequest(description=error.message) from None
        # An event may arrive twice, or after a client polled the state: only the first result resolves the transfer.
        transfer = TRANSFERS.get(event.challenge_id or "")
        if transfer is not None and transfer["state"] == "waiting":
            transfer["state"] = "done" if event.approved else "refused"
        resp.status = falcon.HTTP_204


async def sigil_failed(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: SigilError, params: dict[str, Any]
) -> None:
    if isinstance(error, InvalidRequest):
        resp.status, resp.media = falcon.HTTP_400, {"error": error.message}
    elif isinstance(error, RateLimited):
        resp.status, resp.media = falcon.HTTP_429, {"error": "Too many requests, try later."}
    else:
        log.error("Sigil: %s", error)
        resp.status, resp.media = falcon.HTTP_503, {"error": "Approval is not possible now."}


def create_app() -> falcon.asgi.App:
    sigil = Sigil()
    app = falcon.asgi.App(middleware=[sigil])
    transfers = Transfers(sigil)
    app.add_route("/device", Devices())
    app.add_route("/transfers", transfers)
    app.add_route("/transfers/{number}", transfers, suffix="one")
    app.add_route("/webhooks/sigil", Webhooks())
    app.add_error_handler(SigilError, sigil_failed)
    return app


app = create_app()
