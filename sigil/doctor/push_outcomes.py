"""The relay's account of a device in words, each with its remedy: the registration, and what became of each push."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.protocol.messages.relay import PastPush, PushHistory, Registration

_PROVIDERS = {"apns": "APNs", "fcm": "FCM", "websocket": "WebSocket", "webpush": "the browser's push service"}
_OPEN_THE_APP = "open the app: it registers again, with a new token"
_CHECK_CONTACT = "check RELAY_WEBPUSH_CONTACT and the clock of the relay; then run `sigil-relay doctor` there"
_RELAY_DOCTOR = "run `sigil-relay doctor` on the relay's host"
_EVICTIONS = {
    "BadDeviceToken": (
        "APNs reported BadDeviceToken",
        "the app and APNS_ENVIRONMENT of the relay must be of one environment (sandbox: installed by Xcode); then "
        + _OPEN_THE_APP,
    ),
    "DeviceTokenNotForTopic": (
        "APNs reported DeviceTokenNotForTopic",
        "APNS_TOPIC of the relay must be the bundle id of the app; then " + _OPEN_THE_APP,
    ),
    "Unregistered": ("APNs reported that the app was removed", "install the app, and " + _OPEN_THE_APP),
    "ExpiredToken": ("APNs reported that the token has expired", _OPEN_THE_APP),
    "UNREGISTERED": ("FCM reported that the app was removed or its token has expired", _OPEN_THE_APP),
    "http_404": ("the browser's push service does not know the subscription", _OPEN_THE_APP),
    "http_410": ("the browser has ended the subscription", _OPEN_THE_APP),
    "silent": ("the device gave no sign of life for 90 days", _OPEN_THE_APP),
    "failing": (
        "the provider rejected ten pushes in a row",
        "of FCM, compare the app's Firebase project with FCM_SERVICE_ACCOUNT of the relay; then " + _OPEN_THE_APP,
    ),
}
# Of a push that failed or waits: the words and the remedy for the relay's own error codes. Others are of the provider.
_ERRORS = {
    "expired": ("it expired before it was delivered", ""),
    "superseded": ("too many newer pushes waited for the device", "open the app: it is not connected"),
    "cleared": ("withdrawn before it was sent, since its challenge had ended", ""),
    "provider_off": (
        "the relay has no credentials for this provider",
        "set APNS_…, FCM_SERVICE_ACCOUNT or RELAY_WEBPUSH_KEY_FILE at the relay",
    ),
    "provider_busy": ("too many pushes of this relay are in flight", "it is sent again by itself"),
    "credentials_refused": ("the provider rejects the relay's credentials", _RELAY_DOCTOR),
    "token_unavailable": ("Google gave the relay no access token", _RELAY_DOCTOR),
    "unreachable": ("the relay does not reach the provider", _RELAY_DOCTOR),
    "SENDER_ID_MISMATCH": (
        "FCM reported SENDER_ID_MISMATCH",
        "the app's Firebase project must be that of FCM_SERVICE_ACCOUNT of the relay",
    ),
    "TooManyRequests": ("APNs limits the pushes to this device", "it is sent again by itself; push less often"),
    "QUOTA_EXCEEDED": ("FCM limits the pushes of the project", "it is sent again by itself; push less often"),
    "http_401": ("the browser's push service rejects the relay's token", _CHECK_CONTACT),
    "http_403": ("the browser's push service rejects the relay's token", _CHECK_CONTACT),
    "BadJwtToken": ("Apple's push service rejects the relay's token", _CHECK_CONTACT),
    "http_429": ("the browser's push service limits the pushes", "it is sent again by itself; push less often"),
    "key_not_of_relay": (
        "the subscription was made with a key that the relay no longer has",
        "add the old key to RELAY_WEBPUSH_KEY of the relay (new,old), or " + _OPEN_THE_APP,
    ),
    "host_not_listed": (
        "the browser's push service is no longer on the relay's list",
        "add its host to RELAY_WEBPUSH_HOSTS of the relay",
    ),
    "not_carried": ("a browser gets no message that shows nothing; the page removes the notification itself", ""),
    "timeout": ("the provider did not answer in time", _RELAY_DOCTOR),
    "internal": ("the relay failed at it", "its log event push_attempt_failed has the cause"),
    "sealed_with_another_key": (
        "the relay cannot open the device's token",
        "TOKEN_ENCRYPTION_KEY of the relay must include the key that sealed it",
    ),
}
_CODE = re.compile(r"[A-Z][A-Za-z0-9_]*\Z|http_")
_TYPES = {"challenge": "challenge", "mpa": "approval request", "clear": "clear of"}


def registration_result(found: Registration, relay_url: str) -> Result:
    name = "registration"
    if found.status == "not_registered":
        return failed(
            name, f"the device is not registered at the relay {relay_url}",
            f"open the app: it registers; it must use this relay, as `sigil device` does with --relay {relay_url}",
        )  # fmt: skip
    provider = _provider(found.provider)
    seen = f", last seen {found.last_seen_at}" if found.last_seen_at else ""
    since = f" since {found.registered_at}" if found.registered_at else ""
    if found.status == "token_evicted":
        words, step = _EVICTIONS.get(found.error or "", (f"{provider} reported {found.error}", _OPEN_THE_APP))
        when = f" since {found.evicted_at}" if found.evicted_at else ""
        return failed(name, f"its token for {provider} is dead{when}: {words}{seen}", step)
    token = "" if found.provider == "websocket" else ", its token is alive"
    times = f"{since}{seen}" or "; times only after a push of this server"
    return ok(name, f"registered for {provider}{times}{token}")


def push_results(found: PushHistory) -> Iterator[Result]:
    """One for each push, the newest first. The newest alone counts as failed: it is the state of now."""
    for number, push in enumerate(found.pushes):
        yield _push_result(push, newest=number == 0)
    if not found.pushes and found.registration.status != "not_registered":
        yield still_open(
            "push", "the relay remembers no push of this server to the device",
            "create a challenge for it; the relay remembers pushes for 7 days",
        )  # fmt: skip


def _push_result(push: PastPush, *, newest: bool) -> Result:
    head = f"{push.created_at} {_subject(push.push_key)}: "
    provider = _provider(push.provider)
    if push.status == "delivered":
        by = "acknowledged by the device" if push.provider == "websocket" else f"accepted by {provider}"
        at = f" at {push.ended_at}" if push.ended_at else ""
        return ok("push", f"{head}{by}{at}{_attempts(push)}")
    words, step = _ERRORS.get(push.error or "") or _other_error(push.error or "unknown", provider)
    if push.status == "queued":
        if push.provider == "websocket":
            if push.attempts:
                return still_open("push", f"{head}sent, and not acknowledged yet", "wait, or open the app again")
            return still_open("push", f"{head}waits for the device to connect", "open the app: it is not connected")
        again = f", next attempt {push.next_attempt_at}" if push.next_attempt_at else ""
        reason = f": {words}" if push.error else ""
        return still_open("push", f"{head}waits for {provider}{reason}{again}{_attempts(push)}", step)
    if push.error in {"cleared", "not_carried"}:
        return ok("push", f"{head}{words}")
    if push.status == "not_registered":
        words, step = "the device unregistered", "open the app: it registers"
    elif push.status == "token_evicted":
        words, step = _EVICTIONS.get(push.error or "", (f"{provider} reported {push.error}", _OPEN_THE_APP))
    elif push.error == "expired" and push.provider == "websocket":
        step = "open the app: it was not connected" if not push.attempts else "the device got it, and did not answer"
    text = f"{head}not delivered, {words}{_attempts(push)}"
    return (failed if newest else still_open)("push", text, step)


def _other_error(error: str, provider: str) -> tuple[str, str]:
    if _CODE.match(error):
        return f"{provider} reported {error}", _RELAY_DOCTOR
    return f"the connection to {provider} broke ({error})", "it is sent again by itself, until it expires"


def _attempts(push: PastPush) -> str:
    return "" if push.provider == "websocket" or push.attempts < 2 else f", {push.attempts} attempts"


def _provider(provider: str | None) -> str:
    return _PROVIDERS.get(provider or "", provider or "its provider")


def _subject(push_key: str) -> str:
    """A push_key is id, member and type; see `sigil.pushes.messages.push_key`."""
    name, _, kind = push_key.rpartition(":")
    return f"{_TYPES.get(kind, kind)} {name.partition(':')[0]}"
