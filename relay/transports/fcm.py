"""Firebase Cloud Messaging, HTTP v1 (docs/relay.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from relay.credentials import FcmCredentials
from relay.transports import Outcome, OutgoingPush
from relay.transports.access_tokens import AccessTokens, TokenRefused, TokenUnavailable
from relay.transports.connection_pool import Pace
from relay.transports.fcm_api import FcmApi
from relay.transports.http2 import Answer, RequestLost
from relay.transports.notification_text import BODY, TITLE, is_clear
from relay.transports.provider_errors import seconds_of, word

_BUSY_SECONDS = 20.0
_ERROR_TYPE = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_encode = msgspec.json.Encoder().encode


class FcmTransport:
    """`clock` gives Unix seconds."""

    def __init__(self, credentials: FcmCredentials, clock: Callable[[], float], pace: Pace = Pace()) -> None:  # noqa: B008 - frozen
        self._clock = clock
        self._api = FcmApi(credentials, pace)
        self._tokens = AccessTokens(credentials, self._api.token, clock)
        self.open, self.load = self._api.lanes.open, self._api.lanes.load

    async def close(self) -> None:
        await self._tokens.close()
        await self._api.close()

    async def send(self, letter: OutgoingPush) -> Outcome:
        body = _message(letter, self._clock())
        try:
            outcome, token = await self._try(body)
            if outcome.error == "UNAUTHENTICATED":
                # The token may have been withdrawn before its time; a new one that is refused too says more.
                self._tokens.refused(token)
                outcome, _ = await self._try(body)
        except RequestLost as lost:
            return Outcome("retry", lost.reason)
        except TokenUnavailable:
            return Outcome("retry", "token_unavailable")
        except TokenRefused as refused:
            return Outcome("denied", str(refused))
        return outcome

    async def _try(self, body: bytes) -> tuple[Outcome, str]:
        token = await self._tokens.current()
        return _outcome(await self._api.send(token, body)), token


def _message(letter: OutgoingPush, now: float) -> bytes:
    """Visible, since messages that show nothing lose their priority; a clear shows nothing and needs none."""
    clears = is_clear(letter.payload)
    android: dict[str, Any] = {
        "priority": "NORMAL" if clears or letter.priority == "normal" else "HIGH",
        "ttl": f"{max(0, letter.expires_at - int(now))}s",
    }
    message = {"token": letter.token, "data": {"sigil": letter.payload.decode()}, "android": android}
    if letter.collapse_id is not None:
        android["collapse_key"] = letter.collapse_id
    if not clears:
        message["notification"] = {"title": TITLE, "body": BODY}
        android["notification"] = {"default_sound": True}
        if letter.collapse_id is not None:
            # A repeat takes the place of what is shown.
            android["notification"]["tag"] = letter.collapse_id
    return _encode({"message": message})


class _Detail(msgspec.Struct, rename={"type": "@type", "code": "errorCode"}):
    type: str = ""
    code: str = ""


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []


class _Answer(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


_decode = msgspec.json.Decoder(_Answer).decode


def _said(body: bytes) -> str:
    """FCM's own code where there is one, else the status that all of Google's interfaces give."""
    try:
        error = _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return next((detail.code for detail in error.details if detail.type == _ERROR_TYPE and detail.code), error.status)


def _outcome(answer: Answer) -> Outcome:
    status = answer.status
    if status == 200:
        return Outcome("delivered")
    said = word(_said(answer.body), str(status))
    if said == "UNREGISTERED":
        return Outcome("gone", said)
    if status == 429 or status >= 500:
        default = _BUSY_SECONDS if status == 429 else 0
        return Outcome("retry", said, after=seconds_of(answer.headers.get(b"retry-after"), default))
    # Not these two: a device that registered another project's token could stop everybody's pushes.
    if status in {401, 403} and said not in {"SENDER_ID_MISMATCH", "THIRD_PARTY_AUTH_ERROR"}:
        return Outcome("denied", said)
    return Outcome("refused", said, counts_against_token=said in {"INVALID_ARGUMENT", "SENDER_ID_MISMATCH"})
