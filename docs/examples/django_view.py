"""Django in one file: a transfer happens when its owner's device has approved it.

    GET  /device?user=zoe                        -> the page that adds the user's phone; its script calls
                                                    /device/enrolment
    POST /transfers {"to": "Zoë", "amount": 12}  -> 202 {"id": …, "match_code": "42", "pictogram": "…"}
    GET  /transfers/<id>                         -> 200 {"state": "waiting" | "done" | "refused"}
    POST /webhooks/sigil                         -> 204: the server's WEBHOOK_URL, so that no client has to poll

Run it with `SIGIL_API_KEY` or `SIGIL_API_KEY_FILE`, `SIGIL_SERVICE_URL` and, for webhooks, `WEBHOOK_SECRET` set;
after `. .dev/env` it calls the server of `make dev`:
`granian --interface wsgi django_view:application`
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import string
from functools import cache
from pathlib import Path
from typing import Any, Literal

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from sigil.sdk import (
    Action,
    Conflict,
    EnrolmentStatus,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    ResultTimeout,
    SigilAuth,
    SigilError,
    WebhookRefused,
    WrongCode,
    webhooks,
)

log = logging.getLogger(__name__)

# Your database: the device of each user, and the transfers that wait for an approval.
DEVICES: dict[str, str] = {}
TRANSFERS: dict[str, dict[str, Any]] = {}
PAGE = string.Template((Path(__file__).parent / "enrol.html").read_text(encoding="utf-8"))


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


def user_of_page(request: HttpRequest) -> str:
    if user := request.session.get("user"):
        return str(user)
    raise BadRequest("Reload the page.")


def enrolment_of(request: HttpRequest) -> str:
    if enrolment_id := request.session.get("enrolment_id"):
        return str(enrolment_id)
    raise Http404


@require_GET
def enrolment_page(request: HttpRequest) -> HttpResponse:
    # Yours begins the session when the user signs in; django.contrib.auth.login does it like this.
    request.session.flush()
    nonce, request.session["user"] = secrets.token_urlsafe(16), request.GET.get("user", "zoe")
    return HttpResponse(PAGE.substitute(csrf=get_token(request), nonce=nonce), headers=secured(nonce))


@require_http_methods(["GET", "POST", "DELETE"])
def enrolment(request: HttpRequest) -> HttpResponse:
    user, calls = user_of_page(request), sigil().enrolment
    if request.method == "POST":
        # Yours needs more than a session: a recent sign-in.
        if earlier := request.session.get("enrolment_id"):
            # It may have ended. Until then, the phone of a page that was closed or reloaded takes no other one.
            with contextlib.suppress(NotFound, Conflict):
                calls.cancel(earlier)
        begun = calls.begin(user)
        request.session["enrolment_id"] = begun.enrolment_id
        return JsonResponse(
            {"qr": begun.qr(), "uri": begun.web_uri or begun.uri, "typed_token": begun.typed_token}, status=201
        )
    enrolment_id = enrolment_of(request)
    if request.method == "DELETE":
        return JsonResponse(described(calls.cancel(enrolment_id)))
    try:
        # Waits for the next state, for as long as the page shows the one in `shown`. Short, as in `resolve`.
        until = UNTIL.get(request.GET.get("shown", ""), "enrolled")
        status = calls.await_result(enrolment_id, timeout=2, until=until)
    except ResultTimeout:
        status = calls.get_status(enrolment_id)
    ended(status, user)
    return JsonResponse(described(status))


@require_POST
def enrolment_code(request: HttpRequest) -> HttpResponse:
    user, enrolment_id = user_of_page(request), enrolment_of(request)
    # A user who has a device approves the new one on it first: docs/enrolling.md.
    try:
        status = sigil().enrolment.confirm(enrolment_id, body_with(request, code=str)["code"])
    except WrongCode as wrong:
        return JsonResponse(refused(wrong), status=403)
    ended(status, user)
    return JsonResponse(described(status))


@csrf_exempt  # No page calls it here; yours keep Django's protection.
@require_POST
def transfer(request: HttpRequest) -> HttpResponse:
    user, wanted = current_user(request), body_with(request, to=str, amount=int)
    if user not in DEVICES:
        return JsonResponse({"error": "No device is enrolled: open /device."}, status=409)
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
        if isinstance(error, Forbidden):
            log.warning("Sigil: %s", error)
            return JsonResponse({"error": "This phone is not accepted: use another one."}, status=403)
        if isinstance(error, NotFound | Conflict):
            return JsonResponse({"error": "It has ended: begin again."}, status=error.status or 404)
        if isinstance(error, RateLimited):
            return JsonResponse({"error": "Too many requests, try later."}, status=429)
        if isinstance(error, SigilError):
            log.error("Sigil: %s", error)
            return JsonResponse({"error": "Approval is not possible now."}, status=503)
        return None


urlpatterns = [
    path("device", enrolment_page),
    path("device/enrolment", enrolment),
    path("device/enrolment/code", enrolment_code),
    path("transfers", transfer),
    path("transfers/<str:number>", state),
    path("webhooks/sigil", webhook),
]

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(32),
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"],
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            f"{__name__}.SigilFailures",
        ],
        # In this process. Yours is a database or a cache that all processes share.
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        SESSION_COOKIE_SAMESITE="Strict",
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
