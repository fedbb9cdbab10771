"""JSON responses and error responses: the only place that maps an error code to its status (docs/protocol.md, section
4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon
import falcon.asgi
import msgspec

from sigil.protocol.errors import (
    ContentCodingRefused,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    Retryable,
    UnsupportedMediaType,
)
from sigil.protocol.messages.server import ErrorAnswer, ErrorBody
from sigil.serving import logs

_STATUS = {
    "INVALID_REQUEST": 400,
    "INVALID_PUBLIC_KEY": 400,
    "FINGERPRINT_MISMATCH": 400,
    "UNAUTHORIZED": 401,
    "INVALID_SIGNATURE": 401,
    "NOT_ELIGIBLE": 403,
    "ORIGIN_REFUSED": 403,
    "WRONG_CODE": 403,
    "ATTESTATION_REQUIRED": 403,
    "ATTESTATION_INVALID": 403,
    "CHALLENGE_NOT_FOUND": 404,
    "MPA_NOT_FOUND": 404,
    "ENROLMENT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "DEVICE_UNKNOWN": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CHALLENGE_ALREADY_USED": 409,
    "ALREADY_ANSWERED": 409,
    "MPA_CLOSED": 409,
    "ENROLMENT_CLAIMED": 409,
    "ENROLMENT_CLOSED": 409,
    "IDEMPOTENCY_CONFLICT": 409,
    "REQUEST_ID_CONFLICT": 409,
    "ALREADY_INITIALIZED": 409,
    "IDENTITY_MISMATCH": 409,
    "FINGERPRINT_AMBIGUOUS": 409,
    "CHALLENGE_EXPIRED": 410,
    "MPA_EXPIRED": 410,
    "ENROLMENT_EXPIRED": 410,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UPGRADE_REQUIRED": 426,
    "TOO_MANY_PENDING": 429,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "NOT_INITIALIZED": 503,
    "OVERLOADED": 503,
}
_PROBLEM_OF_STATUS: dict[int, type[Problem]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
}
_encode = msgspec.json.Encoder().encode


def write_json(resp: falcon.asgi.Response, message: Any, status: int = 200) -> None:
    """A message as JSON that no cache may store."""
    resp.status_code = status
    resp.data = _encode(message)
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")


def write_problem(resp: falcon.asgi.Response, problem: Problem) -> None:
    body = ErrorAnswer(ErrorBody(problem.code, problem.message, dict(problem.details) or None))
    write_json(resp, body, _STATUS[problem.code])
    if isinstance(problem, Retryable):
        resp.set_header("Retry-After", str(problem.retry_after))
    if problem.code == "UNAUTHORIZED":
        resp.set_header("WWW-Authenticate", "Bearer")
    if isinstance(problem, ContentCodingRefused):
        resp.set_header("Accept-Encoding", "identity")


def handle_errors(app: falcon.asgi.App[Any, Any], on_problem: Callable[[Problem], None]) -> None:
    """Every exception of `app` becomes an error response of the protocol; each Problem is passed to `on_problem`."""

    async def problem(_req: object, resp: falcon.asgi.Response, error: Problem, _params: object) -> None:
        on_problem(error)
        write_problem(resp, error)

    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _falcon_error)
    app.add_error_handler(Problem, problem)


async def _falcon_error(_req: object, resp: falcon.asgi.Response, error: falcon.HTTPError, _params: object) -> None:
    kind = _PROBLEM_OF_STATUS.get(error.status_code, InvalidRequest if error.status_code < 500 else Internal)
    write_problem(resp, kind())
    if error.status_code == 405 and error.headers:
        resp.set_headers(error.headers)


async def _unexpected(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: object) -> None:
    logs.error("internal_error", exc=error, method=req.method, route=req.uri_template)
    write_problem(resp, Internal())
