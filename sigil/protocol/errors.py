"""Every error that crosses the wire (docs/protocol.md, section 4): a public code and message, never a cause.

A `Problem` is what the caller sees. The reason, where it must not be told, is the exception's `__cause__`
and goes to the log alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Limit = Literal["address", "device", "pending", "muted"]
"""Which limit refused: for metrics, never for the caller."""


class Problem(Exception):
    """Base of all protocol errors: `code` is part of the wire, `details` are JSON values."""

    code: ClassVar[str] = "INTERNAL"
    summary: ClassVar[str] = "The server met an error of its own; the log has it under this request's id."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or self.summary
        self.details: Mapping[str, Any] = details
        super().__init__(self.message)


class Internal(Problem):
    """Anything that is our fault."""


class InvalidRequest(Problem):
    """`details.path` names the field, as `$.action.type`."""

    code = "INVALID_REQUEST"
    summary = "The request is not of the documented form."


class InvalidPublicKey(Problem):
    code = "INVALID_PUBLIC_KEY"
    summary = "device_public_key is not a usable ES256, ES256K or Ed25519 public key."


class FingerprintMismatch(Problem):
    code = "FINGERPRINT_MISMATCH"
    summary = "fingerprint is not the fingerprint of device_public_key."


class Unauthorized(Problem):
    code = "UNAUTHORIZED"
    summary = "Send a valid API key as 'Authorization: Bearer <key>'."


class InvalidSignature(Problem):
    code = "INVALID_SIGNATURE"
    summary = "The signature was not accepted."


class OriginRefused(Problem):
    """The wizard answers its own page alone: no other site's, under no name that a stranger gave this address."""

    code = "ORIGIN_REFUSED"
    summary = "The setup answers its own page only: open the address that the server's log names."


class ChallengeNotFound(Problem):
    code = "CHALLENGE_NOT_FOUND"
    summary = "There is no such challenge, or its result is no longer kept."


class NotEligible(Problem):
    code = "NOT_ELIGIBLE"
    summary = "Who asked for it does not take part in the decision."


class MpaNotFound(Problem):
    code = "MPA_NOT_FOUND"
    summary = "There is no such request, or its result is no longer kept."


class NotFound(Problem):
    code = "NOT_FOUND"
    summary = "There is nothing at this address."


class MethodNotAllowed(Problem):
    code = "METHOD_NOT_ALLOWED"
    summary = "This address does not offer that method; the Allow header lists those it does."


class ChallengeAlreadyUsed(Problem):
    """`details.status` and `details.decision` say how it ended."""

    code = "CHALLENGE_ALREADY_USED"
    summary = "The challenge has already ended."


class IdempotencyConflict(Problem):
    code = "IDEMPOTENCY_CONFLICT"
    summary = "This Idempotency-Key was used with another body; use a new key for a new request."


class AlreadyAnswered(Problem):
    code = "ALREADY_ANSWERED"
    summary = "This device has already answered; its first answer counts."


class MpaClosed(Problem):
    """`details.status` says how it ended."""

    code = "MPA_CLOSED"
    summary = "The request has already ended."


class RequestIdConflict(Problem):
    code = "REQUEST_ID_CONFLICT"
    summary = "This request_id was used with another body; use a new one for a new request."


class MpaExpired(Problem):
    code = "MPA_EXPIRED"
    summary = "The request timed out before enough groups had answered."


class AlreadyInitialized(Problem):
    code = "ALREADY_INITIALIZED"
    summary = "The server has been set up already, from another window or by somebody else."


class IdentityMismatch(Problem):
    """`details.server_id` and `details.pictogram` are those of the identity that this server had."""

    code = "IDENTITY_MISMATCH"
    summary = "These words give another identity than the one that this server had: restore that one."


class ChallengeExpired(Problem):
    code = "CHALLENGE_EXPIRED"
    summary = "The challenge expired before it was answered; ask for a new one."


class PayloadTooLarge(Problem):
    code = "PAYLOAD_TOO_LARGE"
    summary = "The body is larger than this address takes."


class UnsupportedMediaType(Problem):
    code = "UNSUPPORTED_MEDIA_TYPE"
    summary = "Send the body as 'Content-Type: application/json'."


class Retryable(Problem):
    """Base of the errors that say when to come back: `retry_after` is in whole seconds, for the header."""

    def __init__(
        self, message: str | None = None, *, retry_after: int = 1, limit: Limit | None = None, **details: Any
    ) -> None:
        self.retry_after = max(1, retry_after)
        self.limit = limit
        super().__init__(message, **details)


class TooManyPending(Retryable):
    code = "TOO_MANY_PENDING"
    summary = "This device already has as many pending challenges as it may have."


class RateLimited(Retryable):
    code = "RATE_LIMITED"
    summary = "Too many requests; wait as long as Retry-After says."


class NotInitialized(Retryable):
    code = "NOT_INITIALIZED"
    summary = "The server has not been set up yet."


class Overloaded(Retryable):
    code = "OVERLOADED"
    summary = "The server is busy or has no room for more; wait as long as Retry-After says."
