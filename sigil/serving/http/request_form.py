"""Requests that a proxy in front may read differently: their path has a second spelling, or they name two hosts."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.server import ErrorAnswer, ErrorBody

Headers = list[tuple[bytes, bytes]]

NO_SERVER = (b"server", b"")
"""Granian adds `server: granian` unless the field is present, and cannot leave it out."""

# An empty segment, an escaped slash, or the escape of a character that needs none (RFC 3986, 2.3).
# Routes have no other characters, so any other escape is in a parameter, or in a path of no route.
_SECOND_SPELLING = re.compile(rb"//|%(?:2[d-f]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
_NO_ROUTE = "/%"
_BODY = msgspec.json.encode(
    ErrorAnswer(ErrorBody(InvalidRequest.code, "The request must have exactly one Host header.", {"path": "Host"}))
)


def path_of(scope: dict[str, Any]) -> str:
    """The path to route: a path of no route when its raw form is not the one spelling of a route.

    Falcon routes `//metrics` and `/%6detrics` like `/metrics`, and so past a proxy's rule for `/metrics`.
    """
    # ASGI lets a server leave it out. Granian does not; Falcon's test client does.
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if (b"//" in raw or b"%" in raw) and _SECOND_SPELLING.search(raw):
        return _NO_ROUTE
    path: str = scope["path"]
    return path


def has_one_host(scope: dict[str, Any], headers: Headers) -> bool:
    """RFC 9112, 3.2: HTTP/1.1 has one Host field with a value. Granian adds an empty one where there is none, and in
    HTTP/2 makes it of `:authority`.
    """
    hosts = [value for name, value in headers if name == b"host"]
    return len(hosts) < 2 and (bool(hosts and hosts[0]) or scope["http_version"] != "1.1")


async def reject_hosts(send: Any, request_id: str) -> None:
    headers = [
        (b"x-request-id", request_id.encode()),
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(_BODY)).encode()),
        NO_SERVER,
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})
