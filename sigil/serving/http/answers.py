"""How resources answer."""

from __future__ import annotations

from typing import Any

import falcon
import msgspec
from falcon.asgi import Response

_encode = msgspec.json.Encoder().encode


def answer(resp: Response, message: Any, status: int = 200) -> None:
    """A message as JSON that nobody may keep."""
    resp.status_code = status
    resp.data = _encode(message)
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
