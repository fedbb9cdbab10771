"""The service of servers: registration, and authentication of their signed requests (docs/protocol.md, section 6)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from relay.registry.model import Server
from relay.registry.port import ServerRegistry
from sigil.protocol import signed_bytes
from sigil.protocol.display_text import problem_of
from sigil.protocol.encoding.text import decode_base64, decode_hex
from sigil.protocol.errors import FingerprintMismatch, InvalidPublicKey, InvalidRequest, Unauthorized
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import relay as messages

SKEW_SECONDS = 60
# Every worker rejects a server that is no longer trusted after this time.
_CACHE_SECONDS = 10.0
_MAX_CACHED = 1024
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,11}\Z")


@dataclass(frozen=True)
class SignedRequest:
    """A request as it was signed; each of the four headers as received, or empty."""

    method: str
    target: str
    body: bytes
    server_id: str
    timestamp: str
    nonce: str
    signature: str


@dataclass(frozen=True)
class TrustPolicy:
    """The servers that may register: ids from the settings, ids that an operator added to the registry, and optionally
    the first server to connect."""

    listed: frozenset[bytes] = frozenset()
    on_first_use: bool = False


class Servers:
    """Collaborators: the registry, the trust policy, a clock (Unix seconds), and a monotonic one for the cache."""

    def __init__(
        self,
        *,
        registry: ServerRegistry,
        trust: TrustPolicy,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._trust = trust
        self._clock = clock
        # With the time of day, a clock that was set back would keep a removed server trusted until that time again.
        self._monotonic = monotonic
        self._keys: dict[bytes, tuple[PublicKey, float]] = {}

    async def authenticate(self, request: SignedRequest) -> bytes:
        """The server_id of a known server. Unauthorized, the same for every reason; the nonce is used last."""
        try:
            server_id = decode_hex(request.server_id, "X-Sigil-Server-Id", length=32)
        except InvalidRequest:
            raise _unauthorized() from None
        key = await self._public_key(server_id)
        if key is None:
            raise _unauthorized()
        await self._verify(key, server_id, request)
        return server_id

    async def register(self, body: messages.RegisterServer, request: SignedRequest) -> messages.ServerRegistered:
        """A trusted server presents its key; the request is signed with it."""
        # An operator reads it on a terminal.
        if body.server_name and (problem := problem_of(body.server_name)):
            raise InvalidRequest(f"The name must be displayable text: {problem}.", path="$.server_name")
        key = PublicKey.parse(decode_base64(body.server_public_key, "$.server_public_key"))
        if key.suite != "ES256":
            raise InvalidPublicKey("server_public_key must be the server's ES256 key.")
        if key.fingerprint != body.server_id or body.server_id != request.server_id:
            raise FingerprintMismatch("server_id must be the fingerprint of server_public_key, in the header too.")
        server_id = bytes.fromhex(key.fingerprint)
        known = await self._trusted(server_id)
        trusted = known is not None or server_id in self._trust.listed
        listed = server_id in self._trust.listed and (known is None or known.listed)
        server = Server(server_id, key.wire, body.server_name, int(self._clock()), listed)
        if not trusted and not self._trust.on_first_use:
            raise _unauthorized()
        await self._verify(key, server_id, request)
        if trusted:
            await self._registry.trust(server)
        elif not await self._registry.trust_first(server):
            raise _unauthorized()
        self._keys.pop(server_id, None)
        return messages.ServerRegistered(body.server_id)

    async def _trusted(self, server_id: bytes) -> Server | None:
        """The row of a server, unless it was trusted by the settings alone and they no longer list it."""
        row = await self._registry.server(server_id)
        return None if row is not None and row.listed and server_id not in self._trust.listed else row

    async def _public_key(self, server_id: bytes) -> PublicKey | None:
        cached = self._keys.get(server_id)
        if cached is not None and cached[1] > self._monotonic():
            return cached[0]
        row = await self._trusted(server_id)
        if row is None or not row.public_key:
            self._keys.pop(server_id, None)
            return None
        key = PublicKey.parse(row.public_key)
        # Unauthenticated clients cannot fill the cache: it holds known servers only. The limit is for many servers.
        if len(self._keys) >= _MAX_CACHED:
            self._keys.clear()
        self._keys[server_id] = key, self._monotonic() + _CACHE_SECONDS
        return key

    async def _verify(self, key: PublicKey, server_id: bytes, request: SignedRequest) -> None:
        if not _TIMESTAMP.match(request.timestamp) or not _NONCE.match(request.nonce):
            raise _unauthorized()
        timestamp = int(request.timestamp)
        if abs(self._clock() - timestamp) > SKEW_SECONDS:
            raise _unauthorized()
        message = signed_bytes.relay_request(
            request.method, request.target, request.timestamp, request.nonce, request.body
        )
        if not key.verify(message, _signature(request.signature)):
            raise _unauthorized()
        # The id is part of it: servers cannot use up each other's nonces.
        used_nonce = b"s" + server_id[:16] + bytes.fromhex(request.nonce)
        if not await self._registry.use_nonce(used_nonce, timestamp + SKEW_SECONDS + 1):
            raise _unauthorized()


def _signature(text: str) -> bytes:
    try:
        return decode_base64(text, "X-Sigil-Request-Signature")
    except InvalidRequest:
        raise _unauthorized() from None


def _unauthorized() -> Unauthorized:
    return Unauthorized("Sign the request with the key of a server that this relay knows.")
