"""From answers to results or errors.

Nothing is raised inside an `except`: the frames of a cause would hold the body, and with it a match code.
"""

from __future__ import annotations

import re
from typing import TypeVar

from sigil.protocol.errors import InvalidRequest as NotOfThatForm
from sigil.protocol.messages import ErrorAnswer, ErrorBody, decode
from sigil.sdk.errors import AnswerUnusable, ApiError, Retryable, kind_of
from sigil.sdk.retry import retry_after
from sigil.sdk.sans_io import Reply

T = TypeVar("T")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_MAX_MESSAGE = 300


def result(reply: Reply, status: int, kind: type[T]) -> T:
    """The body of an answer with that status; ApiError, AnswerUnusable."""
    if reply.status >= 400:
        raise refusal(reply)
    if reply.status != status:
        raise _unusable(reply, f"The server answered {reply.status} where {status} was due.{_hint(reply)}")
    try:
        return decode(reply.body, kind)
    except NotOfThatForm as error:
        fault = f"The server's answer is not of the documented form: {error.message} ({error.details['path']})"
    raise _unusable(reply, fault)


def refusal(reply: Reply) -> ApiError:
    """An error answer as an exception; one without a body of the protocol, as proxies make them, too."""
    body = _error_body(reply)
    error = kind_of(reply.status)(
        _printable(body.message),
        code=body.code if _CODE.match(body.code) else f"HTTP_{reply.status}",
        status=reply.status,
        details=body.details,
        request_id=_request_id(reply),
    )
    if isinstance(error, Retryable):
        error.retry_after = retry_after(reply)
    return error


def _error_body(reply: Reply) -> ErrorBody:
    try:
        return decode(reply.body, ErrorAnswer).error
    except NotOfThatForm:
        told = f"The server, or a proxy before it, answered {reply.status} without an error of the protocol."
        return ErrorBody(f"HTTP_{reply.status}", told)


def _unusable(reply: Reply, message: str) -> AnswerUnusable:
    return AnswerUnusable(message, status=reply.status, request_id=_request_id(reply))


def _hint(reply: Reply) -> str:
    redirected = 300 <= reply.status < 400
    return " Redirects are not followed: they would carry the API key elsewhere. Check service_url." * redirected


def _request_id(reply: Reply) -> str | None:
    text = reply.headers.get("x-request-id", "")
    return text if _REQUEST_ID.match(text) else None


def _printable(text: str) -> str:
    """One line for a log, whatever a stranger in between may have put into it."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_MESSAGE])
