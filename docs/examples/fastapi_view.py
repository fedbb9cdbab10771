"""FastAPI: a transfer happens when its owner's device has approved it.

    PUT  /device {"device_public_key": "…"}      -> 204: enrols the user's device
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/{id}                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface asgi fastapi_view:app`
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

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


class Enrolment(BaseModel):
    device_public_key: str


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


User = Annotated[str, Depends(current_user)]
Sigil = Annotated[AsyncSigilAuth, Depends(opened)]


@app.put("/device", status_code=204)
async def enrol(enrolment: Enrolment, user: User) -> None:
    # Yours needs more than a session: a second factor, or the device that is enrolled already.
    DEVICES[user] = enrolment.device_public_key


@app.post("/transfers", status_code=202)
async def transfer(wanted: Wanted, user: User, sigil: Sigil) -> dict[str, str | None]:
    if user not in DEVICES:
        raise HTTPException(409, "No device is enrolled: PUT /device.")
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
    if isinstance(error, RateLimited):
        return JSONResponse({"error": "Too many requests, try later."}, 429)
    log.error("Sigil: %s", error)
    return JSONResponse({"error": "Approval is not possible now."}, 503)
