"""The Idempotency-Key of a creation: the same key and body again get the first response (docs/protocol.md, 5.2)."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from sigil.protocol.api_key import Caller

TRIES = 3
"""Attempts of a creation whose key comes into use between the read and the transaction."""


class Idempotency(msgspec.Struct, frozen=True):
    """An Idempotency-Key, and the SHA-256 of the raw request body."""

    key: str
    body_sha256: bytes

    def name(self, caller: Caller, endpoint: Literal["POST /challenge", "POST /enrolment"]) -> bytes:
        """Scoped to the owner and the endpoint, 16 bytes."""
        return hashlib.sha256(caller.owner + f"{endpoint}\0{self.key}".encode()).digest()[:16]
