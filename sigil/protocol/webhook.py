"""Signatures of webhook events (docs/protocol.md, 5.4; Standard Webhooks 1.0.0)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from sigil.protocol.encoding import encode_base64

_STANDARD_PREFIX = "whsec_"


def sigil_signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `X-Sigil-Signature`: `v1,` and hex of HMAC-SHA-256 over `timestamp.body`."""
    return "v1," + hmac.new(secret.encode(), timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()


def standard_signature(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA-256 over `id.timestamp.body`.

    Raises ValueError when what follows `whsec_` is not base64.
    """
    message = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + encode_base64(hmac.digest(_standard_key(secret), message, "sha256"))


def _standard_key(secret: str) -> bytes:
    if not secret.startswith(_STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a secret that begins with whsec_ goes on in base64") from error
    if not key:
        raise ValueError("nothing follows whsec_: the key would be empty")
    return key
