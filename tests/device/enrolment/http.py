"""Responses of a server for `httpx.MockTransport`, to be read as a stream."""

from __future__ import annotations

import httpx
import msgspec


def response(status: int, content: object) -> httpx.Response:
    body = msgspec.json.encode(content)
    return httpx.Response(status, stream=httpx.ByteStream(body), extensions={"json": content})
