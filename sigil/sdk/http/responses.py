"""Results and errors from responses.

Nothing is raised inside an `except`: the frames of a cause would hold the body, and with it a match code.
"""

from __future__ import annotations

import re
from typing import TypeVar

from sigil.protocol.errors import InvalidRequest as Malformed
from sigil.protocol.messages.decoding import decode
from sigil.protocol.messages.server import ErrorAnswer, ErrorBody
from sigil.sdk.errors import AnswerUnusable, ApiError, Retryable, error_class
from sigil.sdk.http.retry import retry_after
from sigil.sdk.http.sans_io import Response

T = TypeVar("T")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_MAX_MESSAGE = 300


def parse_result(response: Response, status: int, kind: type[T]) -> T:
    """The body of a response with that status; ApiError, AnswerUnusable."""
    if response.status >= 400:
        raise api_error(response)
    if response.status != status:
        raise _unusable(
            response, f"The server responded with {response.status} instead of {status}.{_redirect_hint(response)}"
        )
    try:
        return decode(response.body, kind)
    except Malformed as error:
        fault = f"The server's response is not of the documented form: {error.message} ({error.details['path']})"
    raise _unusable(response, fault)


def api_error(response: Response) -> ApiError:
    """The exception for an error response, also for one without a body of the protocol, as proxies send them."""
    body = _error_body(response)
    error = error_class(response.status, body.code)(
        _message(body),
        code=body.code if _CODE.match(body.code) else f"HTTP_{response.status}",
        status=response.status,
        details=body.details,
        request_id=_request_id(response),
    )
    if isinstance(error, Retryable):
        error.retry_after = retry_after(response)
    return error


def _message(body: ErrorBody) -> str:
    if body.code == "UNAUTHORIZED":
        # The server's text is about the header, which the SDK did send.
        return "The server does not accept this API key: check SIGIL_API_KEY, or the file of SIGIL_API_KEY_FILE."
    path = (body.details or {}).get("path")
    if not isinstance(path, str) or path.removeprefix("$.") in body.message:
        return _printable(body.message)
    return f"{_printable(body.message)} ({_printable(path)})"


def _error_body(response: Response) -> ErrorBody:
    try:
        return decode(response.body, ErrorAnswer).error
    except Malformed:
        message = (
            f"The server, or a proxy in front of it, responded with {response.status} and no error of the protocol."
        )
        return ErrorBody(f"HTTP_{response.status}", message)


def _unusable(response: Response, message: str) -> AnswerUnusable:
    return AnswerUnusable(message, status=response.status, request_id=_request_id(response))


def _redirect_hint(response: Response) -> str:
    redirected = 300 <= response.status < 400
    return " Redirects are not followed: they would send the API key elsewhere. Check service_url." * redirected


def _request_id(response: Response) -> str | None:
    text = response.headers.get("x-request-id", "")
    return text if _REQUEST_ID.match(text) else None


def _printable(text: str) -> str:
    """One line for a log: a proxy or an attacker may have written control characters into it."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_MESSAGE])
