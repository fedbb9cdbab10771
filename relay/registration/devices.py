"""The service of device registrations (docs/protocol.md, section 6)."""

from __future__ import annotations

from collections.abc import Callable

from relay.registration.nonces import Nonces
from relay.registry.model import Device, Platform
from relay.registry.port import DeviceRegistry
from relay.registry.sealing import Sealer
from sigil.protocol import relay_messages as messages
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import InvalidRequest, InvalidSignature
from sigil.protocol.keys import PublicKey
from sigil.protocol.pictogram import pictogram, speakable


class Devices:
    """Collaborators: the registry, the sealer of tokens, nonces, and a clock (Unix seconds)."""

    def __init__(self, *, registry: DeviceRegistry, sealer: Sealer, nonces: Nonces, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._sealer = sealer
        self._nonces = nonces
        self._clock = clock

    def challenge(self) -> messages.RegistrationChallenge:
        nonce = self._nonces.make()
        return messages.RegistrationChallenge(nonce.hex(), encode_base64(nonce))

    async def register(self, origin: str, given: messages.RegisterDevice) -> messages.DeviceRegistered:
        """Form, then the nonce, then the signature; what is stored is stored after both. The last write wins."""
        key = PublicKey.parse(decode_base64(given.device_public_key, "$.device_public_key"))
        if (given.push_platform == "websocket") != (given.push_token == ""):
            raise InvalidRequest("A push token is given, except for websocket, where it is empty.", path="$.push_token")
        nonce, signature = self._nonce(given.challenge_id), decode_base64(given.signature, "$.signature")
        until = self._nonces.check(nonce)
        message = signed_bytes.relay_register(origin, given.push_platform, nonce, given.push_token)
        await self._accept(key, message, signature, nonce, until)
        now = int(self._clock())
        fingerprint = bytes.fromhex(key.fingerprint)
        token = self._sealed(given.push_token, fingerprint, given.push_platform)
        await self._registry.register(Device(fingerprint, key.wire, given.push_platform, token, now, seen_at=now))
        return messages.DeviceRegistered(
            fingerprint=key.fingerprint,
            pictogram=pictogram(key.fingerprint),
            pictogram_speakable=speakable(key.fingerprint),
            registered_at=format_time(now),
        )

    async def unregister(self, origin: str, given: messages.UnregisterDevice) -> messages.DeviceUnregistered:
        key = PublicKey.parse(decode_base64(given.device_public_key, "$.device_public_key"))
        nonce, signature = self._nonce(given.challenge_id), decode_base64(given.signature, "$.signature")
        until = self._nonces.check(nonce)
        await self._accept(key, signed_bytes.relay_unregister(origin, nonce), signature, nonce, until)
        removed = await self._registry.unregister(bytes.fromhex(key.fingerprint))
        return messages.DeviceUnregistered(key.fingerprint, removed)

    def _nonce(self, challenge_id: str) -> bytes:
        return decode_hex(challenge_id, "$.challenge_id", length=32)

    async def _accept(self, key: PublicKey, message: bytes, signature: bytes, nonce: bytes, until: int) -> None:
        # A stranger must not be able to use a nonce up: it is spent after the signature verified.
        if not key.verify(message, signature) or not await self._registry.use_nonce(b"r" + nonce, until):
            raise InvalidSignature

    def _sealed(self, token: str, fingerprint: bytes, platform: Platform) -> bytes:
        return self._sealer.seal("token", fingerprint, platform, token.encode())
