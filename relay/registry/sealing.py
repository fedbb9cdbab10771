"""Push tokens and queued payloads as stored in the database: sealed with XChaCha20-Poly1305.

    sealer = Sealer([new, old])
    sealed = sealer.seal("token", fingerprint, "apns", token)
    sealer.open("token", fingerprint, "apns", sealed)      # Unsealable

A sealed value is

    version (1 byte, 01) ‖ key id (4) ‖ nonce (24, random) ‖ ciphertext ‖ tag (16)

under the associated data `version ‖ key id ‖ len(purpose) ‖ purpose ‖ fingerprint (32) ‖ platform`, so that write
access to the database is not enough to move a value to another device or to another use. Key and id come from the text
of TOKEN_ENCRYPTION_KEY by HKDF-SHA-256 (RFC 5869; empty salt; info `sigil-relay/seal/v1`, 32 bytes, and
`sigil-relay/seal-id/v1`, 4 bytes). The text must be random: this derivation is not meant for passwords.

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
    """Sealed with an unknown key or for another use, or altered. The message contains no secret."""


class Sealer:
    """Seals with the first of `keys`, opens with any; without keys it only marks values as plain.

    With `reads_plain` a sealer with keys opens plain values, too: for a database that was created without a key.
    Otherwise it rejects them, since write access to the database would be enough to insert them.
    """

    def __init__(self, keys: Sequence[str], *, reads_plain: bool = False) -> None:
        self._keys = [
            (_derive(key, b"sigil-relay/seal-id/v1", _ID), _derive(key, b"sigil-relay/seal/v1", 32)) for key in keys
        ]
        self._reads_plain = reads_plain or not keys

    def seal(self, purpose: Purpose, fingerprint: bytes, platform: str, value: bytes) -> bytes:
        """Seal a value for this use by this device only. `platform` is empty if it is not known or may change."""
        if not self._keys:
            return _PLAIN + value
        name, key = self._keys[0]
        nonce = os.urandom(_NONCE)
        associated_data = _associated_data(_SEALED + name, purpose, fingerprint, platform)
        return _SEALED + name + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(value, associated_data, nonce, key)

    def open(self, purpose: Purpose, fingerprint: bytes, platform: str, sealed: bytes) -> bytes:
        """The value, if it was sealed for exactly this use; Unsealable otherwise."""
        if self._reads_plain and sealed[:1] == _PLAIN:
            return sealed[1:]
        if sealed[:1] != _SEALED or len(sealed) < OVERHEAD:
            raise Unsealable("this is not a sealed value")
        head, nonce, ciphertext = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :]
        associated_data = _associated_data(head, purpose, fingerprint, platform)
        matching = [key for name, key in self._keys if name == head[1:]]
        for key in matching:
            try:
                return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated_data, nonce, key)
            except CryptoError:
                continue
        raise Unsealable("altered, or sealed for another use" if matching else "sealed with an unknown key")

    def needs_reseal(self, sealed: bytes) -> bool:
        """True for a value that is not sealed with the newest key: its older key cannot be removed yet."""
        return bool(self._keys) and sealed[:_HEAD] != _SEALED + self._keys[0][0]

    def __repr__(self) -> str:
        return f"Sealer({len(self._keys)} keys)"


def _derive(key: str, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(key.encode())


def _associated_data(head: bytes, purpose: str, fingerprint: bytes, platform: str) -> bytes:
    if len(fingerprint) != 32:
        # Its fixed length separates the fields.
        raise ValueError("a fingerprint must have 32 bytes")
    name = purpose.encode()
    return head + bytes([len(name)]) + name + fingerprint + platform.encode()
