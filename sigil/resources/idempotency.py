"""The Idempotency-Key header of a creation."""

from __future__ import annotations

import hashlib
import re

from falcon.asgi import Request

from sigil.protocol.errors import InvalidRequest
from sigil.sessions.idempotency import Idempotency

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


def idempotency(req: Request, body: bytes) -> Idempotency | None:
    """None without the header; InvalidRequest."""
    key = req.get_header("IDEMPOTENCY-KEY")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.match(key):
        raise InvalidRequest("An Idempotency-Key is 1 to 255 visible ASCII characters.", path="Idempotency-Key")
    return Idempotency(key, hashlib.sha256(body).digest())
