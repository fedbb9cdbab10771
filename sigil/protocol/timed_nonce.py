"""Stateless nonces: time ‖ random ‖ MAC, 32 bytes. Any replica with the secret can check one that another issued.

`label` is part of the MAC: a nonce that is issued for one purpose is valid for no other.
"""

from __future__ import annotations

import hmac

NONCE_SECONDS = 300
LENGTH = 32
RANDOM_BYTES = 12
_TIME, _MAC = 4, 16


def issue(secret: bytes, label: bytes, now: float, random: bytes) -> bytes:
    """32 bytes, valid for NONCE_SECONDS; `now` in Unix seconds, `random` has RANDOM_BYTES."""
    head = int(now).to_bytes(_TIME) + random
    return head + _mac(secret, label, head)


def expiry(secret: bytes, label: bytes, nonce: bytes, now: float) -> int | None:
    """The Unix second until which the nonce is valid. None: forged, or not valid at `now`."""
    head, mac = nonce[:-_MAC], nonce[-_MAC:]
    if len(nonce) != LENGTH or not hmac.compare_digest(mac, _mac(secret, label, head)):
        return None
    issued_at = int.from_bytes(head[:_TIME])
    # One second of tolerance: the clocks of several hosts differ.
    if not issued_at - 1 <= now < issued_at + NONCE_SECONDS:
        return None
    return issued_at + NONCE_SECONDS


def _mac(secret: bytes, label: bytes, head: bytes) -> bytes:
    return hmac.digest(secret, label + head, "sha256")[:_MAC]
