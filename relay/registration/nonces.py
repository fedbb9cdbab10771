"""The nonces of registrations. Only used ones are stored, until they expire.

A label has one use (docs/protocol.md, section 2): the secret is derived under sigil/relay-nonce-secret/v1, and the MAC
covers sigil/relay-nonce/v1. So no value that is computed for one purpose is valid for the other. Nothing that is stored
depends on the labels for longer than NONCE_SECONDS.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from sigil.protocol import timed_nonce
from sigil.protocol.errors import InvalidSignature
from sigil.protocol.timed_nonce import NONCE_SECONDS

__all__ = ["NONCE_SECONDS", "Nonces", "derive_secret"]

SECRET_LABEL = b"sigil/relay-nonce-secret/v1"
MAC_LABEL = b"sigil/relay-nonce/v1"


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
        return timed_nonce.issue(self._secret, MAC_LABEL, self._clock(), self._randomness(timed_nonce.RANDOM_BYTES))

    def check(self, nonce: bytes) -> int:
        """The Unix second until which a used nonce has to be stored. InvalidSignature: forged or expired."""
        expiry = timed_nonce.expiry(self._secret, MAC_LABEL, nonce, self._clock())
        if expiry is None:
            raise InvalidSignature
        return expiry
