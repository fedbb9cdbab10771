"""Every error that crosses the wire (docs/protocol.md, section 4): a public code and message, never a cause.

A `Problem` is what the caller sees. A reason that must stay secret is the exception's `__cause__`, which only the log
gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Limit = Literal[
    "address", "device", "pending", "muted", "key_pending", "key_store", "key_events", "key_enrolments", "server"
]
"""The limit that rejected the request: for metrics, never for the caller."""


_MAX_NAME = 60


class Problem(Exception):
    """Base of all protocol errors: `code` is part of the wire, `details` are JSON values."""

    code: ClassVar[str] = "INTERNAL"
    summary: ClassVar[str] = "Internal server error; the server's log has the cause under the id of this request."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or self.summary
        self.details: Mapping[str, Any] = details
        super().__init__(self.message)


class Internal(Problem):
    """Every fault of the server itself."""


class InvalidRequest(Problem):
    """`details.path` names the field, such as `$.action.type`."""

    code = "INVALID_REQUEST"
    summary = "The request does not have the documented form."


def subject_of(path: str) -> str:
    """The member at `path`, for a sentence; a long name is cut, since a client may choose it."""
    name = path.removeprefix("$").lstrip(".") or "The body"
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"


class InvalidPublicKey(Problem):
    code = "INVALID_PUBLIC_KEY"
    summary = "device_public_key is not a usable ES256, ES256K, Ed25519 or WebAuthn public key."


class FingerprintMismatch(Problem):
    code = "FINGERPRINT_MISMATCH"
    summary = "fingerprint does not match device_public_key."


class Unauthorized(Problem):
    code = "UNAUTHORIZED"
    summary = (
        "The API key is missing, wrong, revoked, or of another server: send a valid one as "
        "'Authorization: Bearer <key>'."
    )


class InvalidSignature(Problem):
    code = "INVALID_SIGNATURE"
    summary = "The signature was not accepted."


class OriginRefused(Problem):
    """The wizard answers only its own page: no page of another site, and no host name of foreign DNS."""

    code = "ORIGIN_REFUSED"
    summary = "The setup accepts requests of its own page only: open the address in the server's log."


class ChallengeNotFound(Problem):
    code = "CHALLENGE_NOT_FOUND"
    summary = "The challenge does not exist, or its result is no longer stored."


class NotEligible(Problem):
    code = "NOT_ELIGIBLE"
    summary = "This device is the requester and may not vote on the request."


class DeviceRevoked(NotEligible):
    summary = "This device is revoked on this server (SIGIL_REVOKED_DEVICES): enrol another key."


class EnrolmentNotFound(Problem):
    """The same for an unknown token and an unknown id."""

    code = "ENROLMENT_NOT_FOUND"
    summary = "The enrolment does not exist, or its result is no longer stored; begin a new one and use its link."


class EnrolmentClaimed(Problem):
    code = "ENROLMENT_CLAIMED"
    summary = "Another device has claimed this enrolment; if it is not yours, cancel the enrolment and begin a new one."


class EnrolmentClosed(Problem):
    """`details.status` gives the state."""

    code = "ENROLMENT_CLOSED"
    summary = "The enrolment is not in a state that permits this; its status is in the details."


class EnrolmentExpired(Problem):
    code = "ENROLMENT_EXPIRED"
    summary = "The enrolment expired before it was complete; begin a new one."


class WrongCode(Problem):
    """`details.attempts_left`; at 0 the enrolment has failed."""

    code = "WRONG_CODE"
    summary = "This is not the code that the device shows; type it again. The third wrong code ends the enrolment."


class AttestationRequired(Problem):
    code = "ATTESTATION_REQUIRED"
    summary = (
        "This server approves for attested devices only: the device must attest its key (POST /device/attest) and send "
        "its device_credential."
    )


AttestationReason = Literal[
    "malformed",
    "chain",
    "root",
    "revoked",
    "challenge",
    "app",
    "app_unknown",
    "environment",
    "level",
    "boot_state",
    "key_properties",
    "patch",
    "emulator",
    "kind",
    "expired",
]
_ATTESTATION_REMEDIES: dict[AttestationReason, str] = {
    "malformed": "it does not have the documented form.",
    "chain": "its certificates do not form a valid chain.",
    "root": "its root is not one that this server trusts.",
    "revoked": "it is revoked, by itself or with its key; attest again, or use another device.",
    "challenge": "it is not for this challenge, key and server; fetch a new challenge and attest again.",
    "app": "it is of an app that this server does not accept.",
    "app_unknown": "the phone did not name the app; restart the phone and attest again.",
    "environment": "it is of another environment (development or production) than this server accepts.",
    "level": "its security level is lower than required.",
    "boot_state": "the device must be locked, with an operating system that this server accepts.",
    "key_properties": "the key was not made with the required properties; make a new key.",
    "patch": "the operating system or firmware is older than this server accepts; update it and attest again.",
    "emulator": "it is of an emulator, which this server does not accept.",
    "kind": "this server does not accept this kind.",
    "expired": "it has expired; attest again.",
}
ATTESTATION_REASONS: frozenset[str] = frozenset(_ATTESTATION_REMEDIES)


class AttestationInvalid(Problem):
    """`details.reason`, of the closed list of section 5.6."""

    code = "ATTESTATION_INVALID"
    summary = "The attestation was not accepted."

    def __init__(self, reason: AttestationReason | None = None) -> None:
        if reason is None:
            super().__init__()
        else:
            super().__init__(f"The attestation was not accepted: {_ATTESTATION_REMEDIES[reason]}", reason=reason)


class MpaNotFound(Problem):
    code = "MPA_NOT_FOUND"
    summary = "The approval request does not exist, or its result is no longer stored."


class NotFound(Problem):
    code = "NOT_FOUND"
    summary = "This path does not exist."


class DeviceUnknown(Problem):
    """The same whether another server has such a device or not."""

    code = "DEVICE_UNKNOWN"
    summary = (
        "The relay remembers no push of this server to a device whose fingerprint begins so: send all 64 characters."
    )


class FingerprintAmbiguous(Problem):
    """Of the devices of this server alone; lists none."""

    code = "FINGERPRINT_AMBIGUOUS"
    summary = "This server has several devices whose fingerprints begin so: send more characters."


class MethodNotAllowed(Problem):
    code = "METHOD_NOT_ALLOWED"
    summary = "This path does not support that method; the Allow header lists the supported ones."


class ChallengeAlreadyUsed(Problem):
    """`details.status` and `details.decision` give the final state."""

    code = "CHALLENGE_ALREADY_USED"
    summary = "The challenge has already ended."


class IdempotencyConflict(Problem):
    code = "IDEMPOTENCY_CONFLICT"
    summary = "This Idempotency-Key was used with a different body; use a new key for a new request."


class AlreadyAnswered(Problem):
    code = "ALREADY_ANSWERED"
    summary = "This device has already answered; its first answer counts."


class MpaClosed(Problem):
    """`details.status` gives the final state."""

    code = "MPA_CLOSED"
    summary = "The approval request has already ended."


class RequestIdConflict(Problem):
    code = "REQUEST_ID_CONFLICT"
    summary = "This request_id was used with a different body; use a new one for a new request."


class MpaExpired(Problem):
    code = "MPA_EXPIRED"
    summary = "The approval request timed out before enough groups had answered."


class AlreadyInitialized(Problem):
    code = "ALREADY_INITIALIZED"
    summary = "The server has been set up already, from another window or by another person."


class IdentityMismatch(Problem):
    """`details`: server_id, pictogram and pictogram_speakable of the identity that this server had."""

    code = "IDENTITY_MISMATCH"
    summary = "These words give another identity than this server had; enter the words of that identity."


class ChallengeExpired(Problem):
    code = "CHALLENGE_EXPIRED"
    summary = "The challenge expired before it was answered; create a new one."


class PayloadTooLarge(Problem):
    code = "PAYLOAD_TOO_LARGE"
    summary = "The body is larger than this path accepts."


class UnsupportedMediaType(Problem):
    code = "UNSUPPORTED_MEDIA_TYPE"
    summary = "Send the body as 'Content-Type: application/json'."


class ContentCodingRefused(UnsupportedMediaType):
    """The response names the accepted coding, in Accept-Encoding (RFC 9110, 12.5.3)."""

    summary = "Send the body as it is: without Content-Encoding, and with no Transfer-Encoding but chunked."


class UpgradeRequired(Problem):
    """The response names the protocol, in Upgrade (RFC 9110, 15.5.22)."""

    code = "UPGRADE_REQUIRED"
    summary = "This path is a WebSocket: connect with ws:// or wss:// (RFC 6455), through proxies that pass Upgrade on."


class Retryable(Problem):
    """Base of the errors with a Retry-After header: `retry_after` is in whole seconds, at least 1."""

    def __init__(
        self, message: str | None = None, *, retry_after: int = 1, limit: Limit | None = None, **details: Any
    ) -> None:
        self.retry_after = max(1, retry_after)
        self.limit = limit
        super().__init__(message, **details)


class TooManyPending(Retryable):
    code = "TOO_MANY_PENDING"
    summary = (
        "This device has reached the limit of pending challenges of this API key; wait until one ends, cancel one, or "
        "retry after the time in Retry-After."
    )


class TooManyEnrolments(TooManyPending):
    summary = (
        "This API key has reached its limit of open enrolments (SIGIL_MAX_ENROLMENTS); wait until one ends, cancel "
        "one, or retry after the time in Retry-After."
    )


class RateLimited(Retryable):
    code = "RATE_LIMITED"
    summary = "Too many requests; retry after the time in Retry-After."


class NotInitialized(Retryable):
    code = "NOT_INITIALIZED"
    summary = "The server has not been set up yet; retry after the setup."


class Overloaded(Retryable):
    code = "OVERLOADED"
    summary = "The server is busy or its store is full; retry after the time in Retry-After."
