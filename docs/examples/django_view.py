"""Django in one file: a transfer happens when its owner's device has approved it.

    PUT  /device {"device_public_key": "…"}      -> 204: enrols the user's device
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/<id>                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface wsgi django_view:application`
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from functools import cache
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from sigil.sdk import (
    Action,
    InvalidRequest,
    NotFound,
    RateLimited,
    ResultTimeout,
    SigilAuth,
    SigilError,
    WebhookRefused,
    webhooks,
)

log = logging.getLogger(__name__)

# Your database: the device of each user, and the transfers that wait for an approval.
DEVICES: dict[str, str] = {}
TRANSFERS: dict[str, dict[str, Any]] = {}


@cache
def sigil() -> SigilAuth:
    """One client for the process, created at first use: after the server has forked its workers."""
    return SigilAuth()


def current_user(request: HttpRequest) -> str:
    """Your session's user."""
    if user := request.headers.get("X-User"):
        return user
    raise BadRequest("The header X-User is missing.")


def body_with(request: HttpRequest, **members: type) -> dict[str, Any]:
    """The JSON body, if it has these members; BadRequest."""
    try:
        body = json.loads(request.body)
    except ValueError:
        raise BadRequest("The body must be JSON.") from None
    for name, kind in members.items():
        if not isinstance(body, dict) or type(body.get(name)) is not kind:
            raise BadRequest(f"{name} must be of type {kind.__name__}.")
    return {name: body[name] for name in members}


class BadRequest(Exception):
    """A request of a client that is answered with 400."""


@csrf_exempt
@require_http_methods(["PUT"])
def enrol(request: HttpRequest) -> HttpResponse:
    # Yours needs more than a session: a second factor, or the device that is enrolled already.
    DEVICES[current_user(request)] = body_with(request, device_public_key=str)["device_public_key"]
    return HttpResponse(status=204)


@csrf_exempt  # This example has no pages of its own; yours keep Django's protection.
@require_POST
def transfer(request: HttpRequest) -> HttpResponse:
    user, wanted = current_user(request), body_with(request, to=str, amount=int)
    if user not in DEVICES:
        return JsonResponse({"error": "No device is enrolled: PUT /device."}, status=409)
    action = Action("payment", f"Pay {wanted['amount']} € to {wanted['to']}", wanted)
    challenge = sigil().auth.create_challenge(DEVICES[user], action, number_matching=True)
    # Store the action here and do not read it from the browser again: this is what the person approves.
    TRANSFERS[challenge.challenge_id] = {"user": user, "wanted": wanted, "state": "waiting"}
    created = {
        "id": challenge.challenge_id,
        "match_code": challenge.match_code,
        "pictogram": "".join(challenge.pictogram),
    }
    return JsonResponse(created, status=202)


@require_GET
def state(request: HttpRequest, number: str) -> HttpResponse:
    found = TRANSFERS.get(number)
    if found is None or found["user"] != current_user(request):
        raise Http404
    if found["state"] == "waiting":
        resolve(number, found)
    return JsonResponse({"state": found["state"]})


def resolve(number: str, found: dict[str, Any]) -> None:
    try:
        # A short timeout: a synchronous worker serves no other client meanwhile.
        status = sigil().auth.await_result(number, timeout=2)
    except ResultTimeout:
        return
    except NotFound:
        found["state"] = "refused"
        return
    # If two requests see the end, only one moves the money. With a database: filter(state="waiting").update(…) == 1.
    if found["state"] == "waiting":
        found["state"] = "done" if status.verified else "refused"


@csrf_exempt  # The signature authenticates the sender.
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    try:
        event = webhooks.verify(request.headers, request.body, os.environ.get("WEBHOOK_SECRET", ""))
    except WebhookRefused as error:
        return JsonResponse({"error": error.message}, status=400)
    # An event may arrive twice, or after a client polled the state: only the first result resolves the transfer.
    found = TRANSFERS.get(event.challenge_id or "")
    if found is not None and found["state"] == "waiting":
        found["state"] = "done" if event.approved else "refused"
    return HttpResponse(status=204)


class SigilFailures:
    """Middleware: a failure of Sigil is not an error of this application."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self._get_response(request)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, BadRequest):
            return JsonResponse({"error": str(error)}, status=400)
        if isinstance(error, InvalidRequest):
            return JsonResponse({"error": error.message}, status=400)
        if isinstance(error, RateLimited):
            return JsonResponse({"error": "Too many requests, try later."}, status=429)
        if isinstance(error, SigilError):
            log.error("Sigil: %s", error)
            return JsonResponse({"error": "Approval is not possible now."}, status=503)
        return None


urlpatterns = [
    path("device", enrol),
    path("transfers", transfer),
    path("transfers/<str:number>", state),
    path("webhooks/sigil", webhook),
]

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(32),
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"],
        MIDDLEWARE=[f"{__name__}.SigilFailures"],
        # By default, Django sends the reason of a 500 by mail only.
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"]},
        },
    )
    django.setup()

application = get_wsgi_application()
