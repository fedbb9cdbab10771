"""Signatures of webhook events (docs/protocol.md, 5.4; Standard Webhooks 1.0.0)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from sigil.protocol.encoding.text import encode_base64

STANDARD_PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
"""The maximal difference between a timestamp and the receiver's clock."""


def signed_headers(secrets: Sequence[str], event_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt at the Unix second `at`. Of several secrets the first is the new one.

    While a secret is replaced, the standard header has a signature for each secret. X-Sigil-Signature has only the
    signature for the new one.
    """
    timestamp = str(at)
    signatures = (standard_signature(secret, event_id, timestamp, body) for secret in secrets)
    return {
        "X-Sigil-Timestamp": timestamp,
        "X-Sigil-Signature": sigil_signature(secrets[0], timestamp, body),
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def standard_secret(secret: str) -> str:
    """A secret in the form that Standard Webhooks libraries accept: `whsec_` and base64."""
    return secret if secret.startswith(STANDARD_PREFIX) else STANDARD_PREFIX + encode_base64(secret.encode())


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
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a secret that begins with whsec_ must continue in base64") from error
    if not key:
        raise ValueError("a secret must not be whsec_ alone: the key would be empty")
    return key
