"""Helpers that read and check a Falcon request; docs/protocol.md, section 4, gives the order of the checks."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import falcon.asgi

from sigil.protocol.errors import ContentCodingRefused, InvalidRequest, Problem, UnsupportedMediaType
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
    require_json(req)
    return decoding.decode_request(body, kind)


def require_json(req: falcon.asgi.Request) -> None:
    """UnsupportedMediaType. JSON is UTF-8: a charset has no effect (RFC 8259, 11)."""
    if (req.content_type or "").partition(";")[0].strip(" \t").lower() != "application/json":
        raise UnsupportedMediaType
    # A decoder would need limits of its own: a few bytes of gzip become megabytes.
    for header, plain in (("CONTENT-ENCODING", "identity"), ("TRANSFER-ENCODING", "chunked")):
        if (req.get_header(header) or plain).strip(" \t").lower() != plain:
            raise ContentCodingRefused


def whole_number(req: falcon.asgi.Request, name: str, *, low: int, high: int, default: int) -> int:
    """A query parameter, once; InvalidRequest, with its name as the path, when it is not within low..high."""
    texts = req.get_param_as_list(name)
    if not texts:
        return default
    if len(texts) > 1:
        raise InvalidRequest(f"{name} is given {len(texts)} times.", path=name)
    [text] = texts
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}.", path=name)
    return int(text)
