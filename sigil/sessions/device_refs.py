"""Device references in requests: public key, fingerprint, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from sigil.protocol.encoding.text import decode_base64, decode_hex
from sigil.protocol.errors import FingerprintMismatch, InvalidPublicKey, InvalidRequest
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey


class DeviceResolver:
    """Rejects the server's own keys: server and device sign the same bytes, so a challenge would be its own answer."""

    def __init__(self, identity: ServerIdentity) -> None:
        self._server_keys = identity.own_public_keys

    def resolve(self, public_key: str, fingerprint: str | None = None, at: str = "$") -> PublicKey:
        """InvalidRequest with a path below `at`, InvalidPublicKey, FingerprintMismatch."""
        device = PublicKey.parse(decode_base64(public_key, f"{at}.device_public_key"))
        if device.wire in self._server_keys:
            raise InvalidPublicKey
        if fingerprint is not None:
            digest = decode_hex(fingerprint, f"{at}.fingerprint", length=32)
            if digest.hex() != device.fingerprint:
                raise FingerprintMismatch
        return device

    def matcher(self, public_key: str | None, fingerprint: str | None) -> Callable[[bytes], bool]:
        """Validates the reference; the result checks whether a public key is that of the referenced device."""
        if public_key is not None:
            wire = self.resolve(public_key, fingerprint).wire
            return lambda device_key: device_key == wire
        if fingerprint is not None:
            digest = decode_hex(fingerprint, "$.fingerprint", length=32)
            return lambda device_key: hashlib.sha256(device_key).digest() == digest
        raise InvalidRequest("Send device_public_key or fingerprint.", path="$.device_public_key")
