"""Nonces that nobody has to remember: time ‖ random ‖ MAC. Only used ones are stored, until they are too old to use."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from sigil.protocol.errors import InvalidSignature

NONCE_SECONDS = 300
_LABEL = b"sigil/relay-nonce/v1"
_TIME, _RANDOM, _MAC = 4, 12, 16
LENGTH = _TIME + _RANDOM + _MAC


class Nonces:
    """`secret` is the same in all workers and replicas; `clock` gives Unix seconds."""

    def __init__(self, secret: bytes, *, clock: Callable[[], float], randomness: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._clock = clock
        self._randomness = randomness

    def make(self) -> bytes:
        """32 bytes, good for NONCE_SECONDS."""
        made = int(self._clock()).to_bytes(_TIME) + self._randomness(_RANDOM)
        return made + self._mac(made)

    def check(self, nonce: bytes) -> int:
        """Until when (Unix seconds) it has to be remembered once used. InvalidSignature: not ours, or too old."""
        made, mac = nonce[:-_MAC], nonce[-_MAC:]
        if len(nonce) != LENGTH or not hmac.compare_digest(mac, self._mac(made)):
            raise InvalidSignature
        at = int.from_bytes(made[:_TIME])
        # A second of the future: workers of several hosts do not have the very same time.
        if not at - 1 <= self._clock() < at + NONCE_SECONDS:
            raise InvalidSignature
        return at + NONCE_SECONDS

    def _mac(self, made: bytes) -> bytes:
        return hmac.digest(self._secret, _LABEL + made, "sha256")[:_MAC]
