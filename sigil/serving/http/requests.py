"""Helpers that read and check a Falcon request; docs/protocol.md, section 4, gives the order of the checks."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import falcon.asgi

from sigil.protocol.errors import InvalidRequest, Problem, UnsupportedMediaType
from sigil.protocol.messages import decoding
from sigil.serving.http.asgi_edge import DEFAULT_BODY_LIMIT, Body

T = TypeVar("T")


async def read_body(req: falcon.asgi.Request, limit: int = DEFAULT_BODY_LIMIT) -> bytes:
    """The raw body; one whose declared length is over `limit` is rejected before a byte of it is read."""
    body: Body = req.scope["sigil.body"]
    return await body.read(limit, req.content_length or 0)


async def discard_body(req: falcon.asgi.Request) -> None:
    """Read at most 1 MiB of the body and drop it: an error response before the body is read would not reach a client
    that still sends."""
    body: Body = req.scope["sigil.body"]
    with suppress(Problem):
        await body.read(0, req.content_length or 0)


def decode_json(req: falcon.asgi.Request, body: bytes, kind: type[T]) -> T:
    """UnsupportedMediaType, then InvalidRequest."""
    if not is_json(req):
        raise UnsupportedMediaType
    return decoding.decode_request(body, kind)


def is_json(req: falcon.asgi.Request) -> bool:
    return (req.content_type or "").partition(";")[0].strip(" \t").lower() == "application/json"


def whole_number(req: falcon.asgi.Request, name: str, *, low: int, high: int, default: int) -> int:
    """A query parameter; InvalidRequest, with its name as the path, when it is not within low..high."""
    text = req.get_param(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}.", path=name)
    return int(text)
