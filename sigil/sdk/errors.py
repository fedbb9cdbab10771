"""The errors of all calls: one tree under `SigilError` (docs/sdk.md lists it).

No message, code or detail holds an API key, a signature or a match code, and no error has a cause: the frames of
the HTTP library hold the Authorization header, and a traceback with local variables would show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigil.sdk.approval_results import MpaStatus
from sigil.sdk.enrolment.status import EnrolmentStatus
from sigil.sdk.results import ChallengeStatus


class SigilError(Exception):
    """Base. `code` is stable; `status` is HTTP's, None when no response led to this error.

    `request_id` names the request in the server's log, None when there was no response.
    """

    default_code = "SIGIL_ERROR"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        # Only the message is in args, so that errors can be pickled and copied.
        super().__init__(message)
        self.message, self.code, self.status = message, code or self.default_code, status
        self.details: Mapping[str, Any] = details or {}
        self.request_id = request_id

    def __str__(self) -> str:
        known = [self.code, f"HTTP {self.status}" if self.status else "", self.request_id or ""]
        return f"{self.message} [{', '.join(filter(None, known))}]"


class ConfigurationError(SigilError):
    """The client cannot be made, or was used after it was closed."""

    default_code = "CONFIGURATION"


class ConnectionFailed(SigilError):
    """No complete response after all retries. The server may have processed the request."""

    default_code = "CONNECTION_FAILED"


class CertificateRefused(ConnectionFailed):
    """The server's certificate is not trusted; nothing was sent. Not retried."""

    default_code = "CERTIFICATE_REFUSED"


class AnswerUnusable(SigilError):
    """The response is not one of this protocol: a redirect, too large, or of another form."""

    default_code = "ANSWER_UNUSABLE"


class ResultTimeout(SigilError):
    """No result within the caller's timeout. What was waited for is still pending: wait again, or cancel it.

    One of `challenge_id`, `mpa_request_id` and `enrolment_id` is set.
    """

    default_code = "RESULT_TIMEOUT"
    challenge_id: str = ""
    mpa_request_id: str = ""
    enrolment_id: str = ""
    last: ChallengeStatus | MpaStatus | EnrolmentStatus | None = None


class WebhookRefused(SigilError):
    """The webhook is not authentic: respond with 400 and do nothing."""

    default_code = "WEBHOOK_REFUSED"


class WebhookHeadersMissing(WebhookRefused):
    """The headers with time and signature are missing."""

    default_code = "WEBHOOK_HEADERS_MISSING"


class WebhookTooOld(WebhookRefused):
    """The signature is valid, but its time is too long ago or in the future."""

    default_code = "WEBHOOK_TOO_OLD"


class WebhookSignatureWrong(WebhookRefused):
    """The signature was made with another secret, or the webhook was changed on the way."""

    default_code = "WEBHOOK_SIGNATURE_WRONG"


class ApiError(SigilError):
    """An error response of the server: `code` and `details` are its own (docs/protocol.md, 4)."""

    default_code = "API_ERROR"


class InvalidRequest(ApiError):
    """400. With `status` None the SDK rejected the request before it was sent."""

    default_code = "INVALID_REQUEST"

    @property
    def path(self) -> str | None:
        """The invalid member, such as `$.action.type`."""
        path = self.details.get("path")
        return path if isinstance(path, str) else None


class Unauthorized(ApiError):
    """401: the API key is wrong, revoked, or of another server."""

    default_code = "UNAUTHORIZED"


class Forbidden(ApiError):
    """403"""

    default_code = "FORBIDDEN"


class WrongCode(Forbidden):
    """403: the code is not the one that the device shows. The third wrong code ends the enrolment."""

    default_code = "WRONG_CODE"

    @property
    def attempts_left(self) -> int:
        """0 when the enrolment has failed: begin another one."""
        left = self.details.get("attempts_left")
        return left if type(left) is int and left > 0 else 0


class NotFound(ApiError):
    """404: no such challenge, request or enrolment for this API key, or its result is no longer kept (10 minutes; an
    approval request: a day).
    """

    default_code = "NOT_FOUND"


class Conflict(ApiError):
    """409: already in another final state, or an idempotency key or request_id was used with other content.

    `ENROLMENT_CLOSED`: the enrolment is not in the state that the call needs; `details["status"]` is its state.
    """

    default_code = "CONFLICT"


class Expired(Conflict):
    """410: the time of the enrolment has ended."""

    default_code = "ENROLMENT_EXPIRED"


class Retryable(ApiError):
    """Base of temporary errors. `retry_after` is in seconds, None when the server sent none."""

    retry_after: int | None = None


class RateLimited(Retryable):
    """429: too many requests."""

    default_code = "RATE_LIMITED"


class TooManyPending(RateLimited):
    """429: too many challenges and requests are pending for one device, or stored for this API key; the message says
    which.
    """

    default_code = "TOO_MANY_PENDING"


class Overloaded(Retryable):
    """503: the server is busy, full, stopping, or not set up."""

    default_code = "OVERLOADED"


class ServerFailed(Retryable):
    """Any other 5xx: from the server, or from a proxy in front of it."""

    default_code = "INTERNAL"


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    429: RateLimited,
    503: Overloaded,
}


def error_class(status: int, code: str) -> type[ApiError]:
    """By the status, so that a code of a later version still gives the right class."""
    for kind, its_status in ((TooManyPending, 429), (WrongCode, 403)):
        if (status, code) == (its_status, kind.default_code):
            return kind
    return _BY_STATUS.get(status, ServerFailed if status >= 500 else ApiError)
