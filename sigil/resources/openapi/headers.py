"""The headers of responses, for the OpenAPI description."""

from __future__ import annotations

from typing import Any

from sigil.resources.openapi.operations import Operation

_SECONDS = {"type": "integer", "minimum": 1}
HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The id of this request in the server's log: that of the request, if it had a plausible one.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds to wait before a retry.", "required": True, "schema": _SECONDS},
    "WWW-Authenticate": {
        "description": "The scheme of the missing or wrong key or token (RFC 9110, 11.6.1).",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
    "Accept-Encoding": {
        "description": "The accepted content coding of a body, if the request had another.",
        "schema": {"type": "string", "const": "identity"},
    },
    "Idempotent-Replayed": {
        "description": "true if this is the first response to the same Idempotency-Key and body again.",
        "schema": {"type": "string", "const": "true"},
    },
}
"""`components.headers`, by the name of the header."""

# By the error code that brings it.
_OF_ERROR = {
    "RATE_LIMITED": "Retry-After",
    "TOO_MANY_PENDING": "Retry-After",
    "OVERLOADED": "Retry-After",
    "NOT_INITIALIZED": "Retry-After",
    "UNAUTHORIZED": "WWW-Authenticate",
    "UNSUPPORTED_MEDIA_TYPE": "Accept-Encoding",
}


def headers_of_answer(operation: Operation) -> dict[str, Any]:
    replayed = any(parameter["name"] == "Idempotency-Key" for parameter in operation.parameters)
    return _references(["Idempotent-Replayed"] if replayed else [])


def headers_of_error(codes: str) -> dict[str, Any]:
    """`codes` as in `Operation.errors`."""
    return _references([header for code, header in _OF_ERROR.items() if code in codes])


def _references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(["X-Request-Id", *names])}
