"""Device references in requests: public key, fingerprint, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set

from sigil.protocol.encoding.text import decode_base64, decode_hex
from sigil.protocol.errors import DeviceRevoked, FingerprintMismatch, InvalidPublicKey, InvalidRequest
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey, WebAuthnPublicKey
from sigil.protocol.origin import web_origin
from sigil.protocol.webauthn import origin_sha256


class DeviceResolver:
    """Rejects the server's own keys: server and device sign the same bytes, so a challenge would be its own answer.
    `revoked` are fingerprints. `public_url` is the canonical origin at which devices use this server, if it is known.
    """

    def __init__(
        self, identity: ServerIdentity, revoked: Set[str] = frozenset(), public_url: str | None = None
    ) -> None:
        self._server_keys = identity.own_public_keys
        self._revoked = revoked
        self._web_origin = web_origin(public_url)
        self._origin_sha256 = origin_sha256(self._web_origin) if self._web_origin else None

    def resolve(self, public_key: str, fingerprint: str | None = None, at: str = "$") -> PublicKey:
        """InvalidRequest with a path below `at`, InvalidPublicKey, FingerprintMismatch."""
        device = PublicKey.parse(decode_base64(public_key, f"{at}.device_public_key"))
        self.require_foreign(device)
        if fingerprint is not None:
            digest = decode_hex(fingerprint, f"{at}.fingerprint", length=32)
            if digest.hex() != device.fingerprint:
                raise FingerprintMismatch
        return device

    def require_foreign(self, device: PublicKey) -> None:
        """InvalidPublicKey for a key of this server, and for one with such a half."""
        if device.is_among(self._server_keys):
            raise InvalidPublicKey

    def require_not_revoked(self, device: PublicKey) -> None:
        """DeviceRevoked. Not part of `resolve`: a revoked device may still reject."""
        if self._revoked and device.fingerprint in self._revoked:
            raise DeviceRevoked

    def require_own_origin(self, device: PublicKey) -> None:
        """InvalidPublicKey for a web device's key of another address. Such a key signs only on pages of its address,
        and another port of this host has the same rpId. Not part of `resolve`: what is pending may still be answered.
        """
        if not isinstance(device, WebAuthnPublicKey):
            return
        if self._web_origin is None:
            raise InvalidPublicKey(
                "This server accepts no key of a web device: let the operator set SIGIL_PUBLIC_URL to an https address "
                "with a host name."
            )
        if device.origin_sha256 != self._origin_sha256:
            raise InvalidPublicKey(
                "This web device has a key for another address than this server's: enrol it again at "
                f"{self._web_origin}/device/."
            )

    def matcher(self, public_key: str | None, fingerprint: str | None) -> Callable[[bytes], bool]:
        """Validates the reference; the result checks whether a public key is that of the referenced device."""
        if public_key is not None:
            wire = self.resolve(public_key, fingerprint).wire
            return lambda device_key: device_key == wire
        if fingerprint is not None:
            digest = decode_hex(fingerprint, "$.fingerprint", length=32)
            return lambda device_key: hashlib.sha256(device_key).digest() == digest
        raise InvalidRequest("Send device_public_key or fingerprint.", path="$.device_public_key")
