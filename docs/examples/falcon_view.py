"""Falcon (ASGI): a transfer happens when its owner's device has approved it.

    GET  /device?user=zoe                        -> the page that adds the user's phone; its script calls
                                                    /device/enrolment
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/{id}                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface asgi falcon_view:app`
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import string
from pathlib import Path
from typing import Any, Literal

import falcon.asgi

from sigil.sdk import (
    Action,
    AsyncSigilAuth,
    Conflict,
    EnrolmentStatus,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    ResultTimeout,
    SigilError,
    WebhookRefused,
    WrongCode,
    webhooks,
)

log = logging.getLogger(__name__)

# Your database: the device of each user, and the transfers that wait for an approval.
DEVICES: dict[str, str] = {}
TRANSFERS: dict[str, dict[str, Any]] = {}

# Your session store: a random id in a cookie, all else at the server.
SESSIONS: dict[str, dict[str, str]] = {}
PAGE = string.Template((Path(__file__).parent / "enrol.html").read_text(encoding="utf-8"))


def current_user(req: falcon.asgi.Request) -> str:
    """Your session's user."""
    return req.get_header("X-User", required=True)


def session_of(req: falcon.asgi.Request) -> dict[str, str]:
    """The session of the page's script, which proves by the token that it runs in the page."""
    session, token = SESSIONS.get(req.cookies.get("session", "")), req.get_header("X-CSRFToken", default="")
    if session is None or not hmac.compare_digest(session["csrf"].encode(), token.encode()):
        raise falcon.HTTPForbidden(description="Reload the page.")
    return session


def enrolment_of(session: dict[str, str]) -> str:
    if enrolment_id := session.get("enrolment_id"):
        return enrolment_id
    raise falcon.HTTPNotFound


def secured(nonce: str) -> dict[str, str]:
    """The headers of the page: it holds a secret, and runs its own script alone."""
    own = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {
        "Content-Security-Policy": f"{nothing}; {own}",
        "Cache-Control": "no-store",
    }


def described(status: EnrolmentStatus) -> dict[str, Any]:
    """What the page shows."""
    names = (status.session_pictogram_speakable or "").split()
    return {"status": status.status, "pictogram": status.session_pictogram, "names": names}


UNTIL: dict[str, Literal["claimed", "confirming", "enrolled"]] = {"pending": "claimed", "claimed": "confirming"}
"""What the page waits for, by what it shows."""


def ended(status: EnrolmentStatus, user: str) -> None:
    """Your database gets the key only here. The account is compared too: another user may have signed in meanwhile."""
    if status.enrolled and status.account == user and status.device_public_key:
        DEVICES[user] = status.device_public_key


def refused(wrong: WrongCode) -> dict[str, str]:
    if wrong.attempts_left:
        return {"error": f"That is not the code on your phone. Attempts left: {wrong.attempts_left}."}
    return {"status": "failed"}


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


class EnrolmentPage:
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        # Yours begins the session when the user signs in.
        name, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        session = {"csrf": secrets.token_urlsafe(32), "user": req.get_param("user", required=True)}
        SESSIONS[name] = session
        resp.set_cookie("session", name, http_only=True, same_site="Strict", secure=req.scheme == "https", path="/")
        resp.content_type, resp.text = falcon.MEDIA_HTML, PAGE.substitute(csrf=session["csrf"], nonce=nonce)
        resp.set_headers(secured(nonce))


class DeviceEnrolment:
    def __init__(self, sigil: Sigil) -> None:
        self._sigil = sigil

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        # Yours needs more than a session: a recent sign-in.
        session = session_of(req)
        if earlier := session.get("enrolment_id"):
            # It may have ended. Until then, the phone of a page that was closed or reloaded takes no other one.
            with contextlib.suppress(NotFound, Conflict):
                await self._sigil.client.enrolment.cancel(earlier)
        begun = await self._sigil.client.enrolment.begin(session["user"])
        session["enrolment_id"] = begun.enrolment_id
        resp.status = falcon.HTTP_201
        resp.media = {"qr": begun.qr(), "uri": begun.web_uri or begun.uri, "typed_token": begun.typed_token}

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Waits for the next state, for as long as the page shows the one in `shown`."""
        session, calls = session_of(req), self._sigil.client.enrolment
        enrolment_id, until = enrolment_of(session), UNTIL.get(req.get_param("shown", default=""), "enrolled")
        try:
            status = await calls.await_result(enrolment_id, timeout=10, until=until)
        except ResultTimeout:
            status = await calls.get_status(enrolment_id)
        ended(status, session["user"])
        resp.media = described(status)

    async def on_post_code(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        session, calls = session_of(req), self._sigil.client.enrolment
        # A user who has a device approves the new one on it first: docs/enrolling.md.
        code = (await body_with(req, code=str))["code"]
        try:
            status = await calls.confirm(enrolment_of(session), code)
        except WrongCode as wrong:
            resp.status, resp.media = falcon.HTTP_403, refused(wrong)
            return
        ended(status, session["user"])
        resp.media = described(status)

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = described(await self._sigil.client.enrolment.cancel(enrolment_of(session_of(req))))


class Transfers:
    def __init__(self, sigil: Sigil) -> None:
        self._sigil = sigil

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        user, wanted = current_user(req), await body_with(req, to=str, amount=int)
        if user not in DEVICES:
            raise falcon.HTTPConflict(description="No device is enrolled: open /device.")
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
    elif isinstance(error, Forbidden):
        log.warning("Sigil: %s", error)
        resp.status, resp.media = falcon.HTTP_403, {"error": "This phone is not accepted: use another one."}
    elif isinstance(error, NotFound | Conflict):
        resp.status, resp.media = error.status or 404, {"error": "It has ended: begin again."}
    elif isinstance(error, RateLimited):
        resp.status, resp.media = falcon.HTTP_429, {"error": "Too many requests, try later."}
    else:
        log.error("Sigil: %s", error)
        resp.status, resp.media = falcon.HTTP_503, {"error": "Approval is not possible now."}


def create_app() -> falcon.asgi.App:
    sigil = Sigil()
    app = falcon.asgi.App(middleware=[sigil])
    transfers = Transfers(sigil)
    enrolment = DeviceEnrolment(sigil)
    app.add_route("/device", EnrolmentPage())
    app.add_route("/device/enrolment", enrolment)
    app.add_route("/device/enrolment/code", enrolment, suffix="code")
    app.add_route("/transfers", transfers)
    app.add_route("/transfers/{number}", transfers, suffix="one")
    app.add_route("/webhooks/sigil", Webhooks())
    app.add_error_handler(SigilError, sigil_failed)
    return app


app = create_app()
