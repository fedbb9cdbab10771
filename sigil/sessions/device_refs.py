"""Devices as requests name them: by public key, by fingerprint, or by both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from sigil.protocol.encoding import decode_base64, decode_hex
from sigil.protocol.errors import FingerprintMismatch, InvalidPublicKey, InvalidRequest
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey


class DeviceResolver:
    """Anybody's but the server's own keys: they sign the same bytes, so its question would be its answer."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._own = identity.own_public_keys

    def resolve(self, public_key: str, fingerprint: str | None = None, at: str = "$") -> PublicKey:
        """InvalidRequest below `at`, InvalidPublicKey, FingerprintMismatch."""
        device = PublicKey.parse(decode_base64(public_key, f"{at}.device_public_key"))
        if device.wire in self._own:
            raise InvalidPublicKey
        if fingerprint is not None:
            told = decode_hex(fingerprint, f"{at}.fingerprint", length=32)
            if told.hex() != device.fingerprint:
                raise FingerprintMismatch
        return device

    def matcher(self, public_key: str | None, fingerprint: str | None) -> Callable[[bytes], bool]:
        """Checks the form of what names the sender; the result tells whether that is the device of a given key."""
        if public_key is not None:
            wire = self.resolve(public_key, fingerprint).wire
            return lambda given: given == wire
        if fingerprint is not None:
            digest = decode_hex(fingerprint, "$.fingerprint", length=32)
            return lambda given: hashlib.sha256(given).digest() == digest
        raise InvalidRequest("Send device_public_key or fingerprint.", path="$.device_public_key")
