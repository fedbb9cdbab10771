"""Google's check-in and registration as Chromium uses them (its `google_apis/gcm/engine/`), over plain HTTP/1.1."""

from __future__ import annotations

import secrets
import time
from urllib.parse import parse_qs

from deploy.providers.http.http1 import Http1, Request
from deploy.providers.http.stream import Response
from deploy.providers.webpush import base64url
from deploy.providers.webpush.protobuf import encode, fixed64
from deploy.providers.webpush.subscriptions import Subscriptions

CHECK_IN, REGISTER = "/checkin", "/c2dm/register3"
# Chromium subscribes at one of them: Google's own build and Debian's.
HOSTS = ("fcm.googleapis.com", "jmt17.google.com")
# Fields of AndroidCheckinResponse.
_STATS_OK, _TIME, _ANDROID_ID, _SECURITY_TOKEN = 1, 3, 7, 8
_TEXT = (("content-type", "text/plain"),)


class Google:
    def __init__(self, subscriptions: Subscriptions) -> None:
        self.connections: set[Http1] = set()
        self._subscriptions = subscriptions
        self._security_tokens: dict[str, int] = {}

    def connection(self) -> Http1:
        return Http1(self._handle, self.connections)

    async def _handle(self, request: Request) -> Response:
        path = request.target.partition("?")[0]
        if request.method != "POST" or path not in {CHECK_IN, REGISTER}:
            return Response(404, "NotFound", _TEXT)
        return self._check_in() if path == CHECK_IN else self._register(request)

    def _check_in(self) -> Response:
        """A new Android id and the token that proves it. Chromium keeps both in its profile."""
        # The id is an int64 of Java, and Chromium rejects 0.
        android_id, security_token = secrets.randbelow(2**62) + 1, secrets.randbelow(2**62) + 1
        self._security_tokens[f"{android_id}"] = security_token
        answer = encode((_STATS_OK, 1), (_TIME, int(time.time() * 1000)))
        answer += fixed64(_ANDROID_ID, android_id) + fixed64(_SECURITY_TOKEN, security_token)
        return Response(200, "Success", (("content-type", "application/x-protobuf"),), answer)

    def _register(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        device = form.get("device", "")
        if request.headers.get("authorization") != f"AidLogin {device}:{self._security_tokens.get(device)}":
            return Response(401, "Unauthorized", _TEXT, b"Error=AUTHENTICATION_FAILED")
        app = form.get("X-subtype", form.get("app", ""))
        if form.get("delete") == "true":
            self._subscriptions.end(device, app)
            return Response(200, "Success", _TEXT, f"deleted={app}".encode())
        sender = base64url.decode(form.get("sender", ""))
        key = sender if sender is not None and len(sender) == 65 else None
        subscription = self._subscriptions.add(device, app, key)
        return Response(200, "Success", _TEXT, f"token={subscription.token}".encode())
