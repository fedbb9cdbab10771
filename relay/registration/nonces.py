"""Stateless nonces: time ‖ random ‖ MAC. Only used ones are stored, until they expire.

A label has one use (docs/protocol.md, section 2): the secret is derived under sigil/relay-nonce-secret/v1, and the MAC
covers sigil/relay-nonce/v1. So no value that is computed for one purpose is valid for the other. Nothing that is stored
depends on the labels for longer than NONCE_SECONDS.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from sigil.protocol.errors import InvalidSignature

NONCE_SECONDS = 300
SECRET_LABEL = b"sigil/relay-nonce-secret/v1"
MAC_LABEL = b"sigil/relay-nonce/v1"
_TIME, _RANDOM, _MAC = 4, 12, 16
LENGTH = _TIME + _RANDOM + _MAC


def derive_secret(encryption_key: bytes) -> bytes:
    """The secret of `Nonces`, 32 bytes: HMAC-SHA-256 of SECRET_LABEL under TOKEN_ENCRYPTION_KEY."""
    return hmac.digest(encryption_key, SECRET_LABEL, "sha256")


class Nonces:
    """`secret` is the same in all workers and replicas; `clock` gives Unix seconds."""

    def __init__(self, secret: bytes, *, clock: Callable[[], float], randomness: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._clock = clock
        self._randomness = randomness

    def issue(self) -> bytes:
        """32 bytes, valid for NONCE_SECONDS."""
        head = int(self._clock()).to_bytes(_TIME) + self._randomness(_RANDOM)
        return head + self._mac(head)

    def check(self, nonce: bytes) -> int:
        """The Unix second until which a used nonce has to be stored. InvalidSignature: forged or expired."""
        head, mac = nonce[:-_MAC], nonce[-_MAC:]
        if len(nonce) != LENGTH or not hmac.compare_digest(mac, self._mac(head)):
            raise InvalidSignature
        issued_at = int.from_bytes(head[:_TIME])
        # One second of tolerance: the clocks of several hosts differ.
        if not issued_at - 1 <= self._clock() < issued_at + NONCE_SECONDS:
            raise InvalidSignature
        return issued_at + NONCE_SECONDS

    def _mac(self, head: bytes) -> bytes:
        return hmac.digest(self._secret, MAC_LABEL + head, "sha256")[:_MAC]
