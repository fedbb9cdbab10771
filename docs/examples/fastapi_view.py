"""FastAPI: a transfer happens when its owner's device has approved it.

    GET  /device?user=zoe                        -> the page that adds the user's phone; its script calls
                                                    /device/enrolment
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/{id}                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface asgi fastapi_view:app`
"""

import contextlib
import hmac
import logging
import os
import secrets
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

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


class Code(BaseModel):
    code: str


class Wanted(BaseModel):
    to: str
    amount: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncSigilAuth() as sigil:
        app.state.sigil = sigil
        yield


app = FastAPI(lifespan=lifespan)


def current_user(x_user: Annotated[str, Header()]) -> str:
    """Your session's user."""
    return x_user


def opened(request: Request) -> AsyncSigilAuth:
    client: AsyncSigilAuth = request.app.state.sigil
    return client


def session_of(
    session: Annotated[str, Cookie()] = "", x_csrftoken: Annotated[str, Header(alias="X-CSRFToken")] = ""
) -> dict[str, str]:
    """The session of the page's script, which proves by the token that it runs in the page."""
    found = SESSIONS.get(session)
    if found is None or not hmac.compare_digest(found["csrf"].encode(), x_csrftoken.encode()):
        raise HTTPException(403, "Reload the page.")
    return found


def enrolment_of(session: Annotated[dict[str, str], Depends(session_of)]) -> str:
    if enrolment_id := session.get("enrolment_id"):
        return enrolment_id
    raise HTTPException(404)


User = Annotated[str, Depends(current_user)]
Session = Annotated[dict[str, str], Depends(session_of)]
EnrolmentId = Annotated[str, Depends(enrolment_of)]
Sigil = Annotated[AsyncSigilAuth, Depends(opened)]


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


@app.get("/device")
async def enrolment_page(request: Request, user: str) -> HTMLResponse:
    # Yours begins the session when the user signs in.
    name, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
    session = {"csrf": secrets.token_urlsafe(32), "user": user}
    SESSIONS[name] = session
    response = HTMLResponse(PAGE.substitute(csrf=session["csrf"], nonce=nonce), headers=secured(nonce))
    response.set_cookie("session", name, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


@app.post("/device/enrolment", status_code=201)
async def begin_enrolment(session: Session, sigil: Sigil) -> dict[str, str]:
    # Yours needs more than a session: a recent sign-in.
    if earlier := session.get("enrolment_id"):
        # It may have ended. Until then, the phone of a page that was closed or reloaded takes no other one.
        with contextlib.suppress(NotFound, Conflict):
            await sigil.enrolment.cancel(earlier)
    begun = await sigil.enrolment.begin(session["user"])
    session["enrolment_id"] = begun.enrolment_id
    return {"qr": begun.qr(), "uri": begun.web_uri or begun.uri, "typed_token": begun.typed_token}


@app.get("/device/enrolment")
async def enrolment_state(session: Session, enrolment_id: EnrolmentId, sigil: Sigil, shown: str = "") -> dict[str, Any]:
    """Waits for the next state, for as long as the page shows the one in `shown`."""
    try:
        until = UNTIL.get(shown, "enrolled")
        status = await sigil.enrolment.await_result(enrolment_id, timeout=10, until=until)
    except ResultTimeout:
        status = await sigil.enrolment.get_status(enrolment_id)
    ended(status, session["user"])
    return described(status)


@app.post("/device/enrolment/code")
async def confirm_code(typed: Code, session: Session, enrolment_id: EnrolmentId, sigil: Sigil) -> Any:
    # A user who has a device approves the new one on it first: docs/enrolling.md.
    try:
        status = await sigil.enrolment.confirm(enrolment_id, typed.code)
    except WrongCode as wrong:
        return JSONResponse(refused(wrong), 403)
    ended(status, session["user"])
    return described(status)


@app.delete("/device/enrolment")
async def cancel_enrolment(enrolment_id: EnrolmentId, sigil: Sigil) -> dict[str, Any]:
    return described(await sigil.enrolment.cancel(enrolment_id))


@app.post("/transfers", status_code=202)
async def transfer(wanted: Wanted, user: User, sigil: Sigil) -> dict[str, str | None]:
    if user not in DEVICES:
        raise HTTPException(409, "No device is enrolled: open /device.")
    action = Action("payment", f"Pay {wanted.amount} € to {wanted.to}", wanted.model_dump())
    challenge = await sigil.auth.create_challenge(DEVICES[user], action, number_matching=True)
    # Store the action here and do not read it from the browser again: this is what the person approves.
    TRANSFERS[challenge.challenge_id] = {"user": user, "wanted": wanted, "state": "waiting"}
    return {"id": challenge.challenge_id, "match_code": challenge.match_code, "pictogram": "".join(challenge.pictogram)}


@app.get("/transfers/{number}")
async def state(number: str, user: User, sigil: Sigil) -> dict[str, str]:
    found = TRANSFERS.get(number)
    if found is None or found["user"] != user:
        raise HTTPException(404)
    if found["state"] == "waiting":
        await resolve(sigil, number, found)
    return {"state": found["state"]}


async def resolve(sigil: AsyncSigilAuth, number: str, found: dict[str, Any]) -> None:
    try:
        status = await sigil.auth.await_result(number, timeout=10)
    except ResultTimeout:
        return
    except NotFound:
        found["state"] = "refused"
        return
    # If two requests see the end, only one moves the money. With a database: UPDATE … WHERE state = 'waiting'.
    if found["state"] == "waiting":
        found["state"] = "done" if status.verified else "refused"


@app.post("/webhooks/sigil", status_code=204)
async def webhook(request: Request) -> None:
    try:
        event = webhooks.verify(request.headers, await request.body(), os.environ.get("WEBHOOK_SECRET", ""))
    except WebhookRefused as error:
        raise HTTPException(400, error.message) from None
    # An event may arrive twice, or after a client polled the state: only the first result resolves the transfer.
    found = TRANSFERS.get(event.challenge_id or "")
    if found is not None and found["state"] == "waiting":
        found["state"] = "done" if event.approved else "refused"


@app.exception_handler(SigilError)
async def sigil_failed(request: Request, error: SigilError) -> JSONResponse:
    if isinstance(error, InvalidRequest):
        return JSONResponse({"error": error.message}, 400)
    if isinstance(error, Forbidden):
        log.warning("Sigil: %s", error)
        return JSONResponse({"error": "This phone is not accepted: use another one."}, 403)
    if isinstance(error, NotFound | Conflict):
        return JSONResponse({"error": "It has ended: begin again."}, error.status or 404)
    if isinstance(error, RateLimited):
        return JSONResponse({"error": "Too many requests, try later."}, 429)
    log.error("Sigil: %s", error)
    return JSONResponse({"error": "Approval is not possible now."}, 503)
