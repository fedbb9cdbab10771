"""Push tokens and held payloads as they lie in the database: sealed with XChaCha20-Poly1305.

    sealer = Sealer([new, old])
    sealed = sealer.seal("token", fingerprint, "apns", token)
    sealer.open("token", fingerprint, "apns", sealed)      # Unsealable

A sealed value is

    version (1 byte, 01) ‖ key id (4) ‖ nonce (24, random) ‖ ciphertext ‖ tag (16)

under the associated data `version ‖ key id ‖ len(purpose) ‖ purpose ‖ fingerprint (32) ‖ platform`, so that nobody who
can write to the database moves a value to another device or to another use. Key and id come from the text of
TOKEN_ENCRYPTION_KEY by HKDF-SHA-256 (RFC 5869; empty salt; info `sigil-relay/seal/v1`, 32 bytes, and
`sigil-relay/seal-id/v1`, 4 bytes). The text is taken for a random one: this is no derivation for passwords.

Without keys a value is marked as plain: version 00, then the value.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

Purpose = Literal["token", "payload"]

OVERHEAD = 1 + 4 + 24 + 16
"""Bytes that sealing adds; a plain value grows by one."""

_PLAIN = b"\x00"
_SEALED = b"\x01"
_ID = 4
_NONCE = 24
_HEAD = 1 + _ID


class Unsealable(Exception):
    """Sealed with a key that is not here, for something else, or altered; the message holds no secret."""


class Sealer:
    """Seals with the first of `keys`, opens with any; without keys it only marks values as plain.

    `reads_plain` lets one with keys open plain values, too: for a database that began without a key. Otherwise they are
    refused, since whoever can write to the database could put them there.
    """

    def __init__(self, keys: Sequence[str], *, reads_plain: bool = False) -> None:
        self._keys = [
            (_derive(key, b"sigil-relay/seal-id/v1", _ID), _derive(key, b"sigil-relay/seal/v1", 32)) for key in keys
        ]
        self._reads_plain = reads_plain or not keys

    def seal(self, purpose: Purpose, fingerprint: bytes, platform: str, value: bytes) -> bytes:
        """The value for this use by this device only. `platform` is empty where it is not known or may change."""
        if not self._keys:
            return _PLAIN + value
        name, key = self._keys[0]
        nonce = os.urandom(_NONCE)
        bound = _bound(_SEALED + name, purpose, fingerprint, platform)
        return _SEALED + name + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(value, bound, nonce, key)

    def open(self, purpose: Purpose, fingerprint: bytes, platform: str, sealed: bytes) -> bytes:
        """The value that was sealed for just this; Unsealable otherwise."""
        if self._reads_plain and sealed[:1] == _PLAIN:
            return sealed[1:]
        if sealed[:1] != _SEALED or len(sealed) < OVERHEAD:
            raise Unsealable("this is no sealed value")
        head, nonce, ciphertext = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :]
        bound = _bound(head, purpose, fingerprint, platform)
        mine = [key for name, key in self._keys if name == head[1:]]
        for key in mine:
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, bound, nonce, key)
            except CryptoError:
                continue
        raise Unsealable("altered, or sealed for something else" if mine else "sealed with a key that is not here")

    def needs_reseal(self, sealed: bytes) -> bool:
        """True for a value that is not sealed with the newest key, so that an older one cannot be taken away yet."""
        return bool(self._keys) and sealed[:_HEAD] != _SEALED + self._keys[0][0]

    def __repr__(self) -> str:
        return f"Sealer({len(self._keys)} keys)"


def _derive(key: str, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(key.encode())


def _bound(head: bytes, purpose: str, fingerprint: bytes, platform: str) -> bytes:
    if len(fingerprint) != 32:
        # A fixed length is what keeps the parts apart.
        raise ValueError("a fingerprint has 32 bytes")
    name = purpose.encode()
    return head + bytes([len(name)]) + name + fingerprint + platform.encode()
