"""The service of servers: registration, and authentication of their signed requests (docs/protocol.md, section 6).

Checks that need no body come before those that do, and those that need no query first of all.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from relay.registration.rejections import ServerRejected
from relay.registry.model import Server
from relay.registry.port import ServerRegistry
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.display_text import problem_of
from sigil.protocol.encoding.text import decode_base64, decode_hex
from sigil.protocol.errors import FingerprintMismatch, InvalidPublicKey, InvalidRequest, Unauthorized
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import relay as messages

SKEW_SECONDS = 60
# Every worker rejects a server that is no longer trusted after this time.
_CACHE_SECONDS = 10.0
_MAX_CACHED = 1024
# Requests with unknown ids cause one query of a worker in this time, however many there are.
_IDS_SECONDS = 1.0
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,11}\Z")


@dataclass(frozen=True)
class SignedHead:
    """A request as it was signed, without its body; each of the four headers as received, or empty."""

    method: str
    target: str
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
        self._ids: frozenset[bytes] = frozenset()
        self._ids_until = 0.0
        self._reading: asyncio.Task[None] | None = None

    def is_cached(self, head: SignedHead) -> bool:
        """Whether the request claims to be of a server that is known without a query, for the log alone."""
        try:
            server_id = _server_id(head)
        except Unauthorized:
            return False
        return server_id in self._trust.listed or server_id in self._ids

    async def names_known_server(self, head: SignedHead) -> bool:
        """Whether the headers are those of a known server; its signature is not verified."""
        try:
            server_id = _server_id(head)
            self._check_form(head)
        except Unauthorized:
            return False
        return await self._is_known(server_id)

    async def expect(self, head: SignedHead) -> PublicKey:
        """The key of a known server, before the body is read. Unauthorized, the same for every reason."""
        server_id = _server_id(head)
        self._check_form(head)
        if not await self._is_known(server_id):
            raise ServerRejected("unknown_server")
        return await self._public_key(server_id)

    def verify(self, key: PublicKey, head: SignedHead, body: bytes) -> bytes:
        """The server_id of the request that `expect` returned the key of; Unauthorized. Then its nonce has to be
        used."""
        message = signed_bytes.relay_request(head.method, head.target, head.timestamp, head.nonce, body)
        if not key.verify(message, _signature(head.signature)):
            raise ServerRejected("signature")
        return _server_id(head)

    async def use_nonce(self, server_id: bytes, head: SignedHead) -> None:
        """Unauthorized when the request is a repeat."""
        # The id is part of it: servers cannot use up each other's nonces.
        used_nonce = b"s" + server_id[:16] + bytes.fromhex(head.nonce)
        if not await self._registry.use_nonce(used_nonce, int(head.timestamp) + SKEW_SECONDS + 1):
            raise ServerRejected("nonce_used")

    async def register(
        self, request: messages.RegisterServer, head: SignedHead, body: bytes
    ) -> messages.ServerRegistered:
        """A trusted server presents its key; the request is signed with it."""
        # An operator reads it on a terminal.
        if request.server_name and (problem := problem_of(request.server_name)):
            raise InvalidRequest(f"The name must be displayable text: {problem}.", path="$.server_name")
        key = PublicKey.parse(decode_base64(request.server_public_key, "$.server_public_key"))
        if key.suite != "ES256":
            raise InvalidPublicKey("server_public_key must be the server's ES256 key.")
        if key.fingerprint != request.server_id or request.server_id != head.server_id:
            raise FingerprintMismatch("server_id must be the fingerprint of server_public_key, in the header too.")
        self._check_form(head)
        server_id = bytes.fromhex(key.fingerprint)
        if not await self._is_known(server_id) and (self._ids or not self._trust.on_first_use):
            raise ServerRejected("unknown_server")
        # Before a query for this request: the id and the key of a known server are public.
        self.verify(key, head, body)
        known = await self._trusted(server_id)
        trusted = known is not None or server_id in self._trust.listed
        listed = server_id in self._trust.listed and (known is None or known.listed)
        server = Server(server_id, key.wire, request.server_name, int(self._clock()), listed)
        if not trusted and (self._ids or not self._trust.on_first_use):
            raise ServerRejected("unknown_server")
        await self.use_nonce(server_id, head)
        if trusted:
            await self._registry.trust(server)
        elif not await self._registry.trust_first(server):
            raise ServerRejected("unknown_server")
        self._keys.pop(server_id, None)
        self._ids |= {server_id}
        return messages.ServerRegistered(request.server_id)

    async def _is_known(self, server_id: bytes) -> bool:
        """Whether the settings or the registry trust a server: of the registry, as of up to a second ago."""
        if server_id in self._trust.listed or server_id in self._ids:
            return True
        if self._monotonic() >= self._ids_until:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_ids())
            # One client's disconnect must not cancel the query of the others.
            await asyncio.shield(self._reading)
        return server_id in self._ids

    async def _read_ids(self) -> None:
        try:
            self._ids = frozenset([server.server_id for server in await self._registry.servers()])
            self._ids_until = self._monotonic() + _IDS_SECONDS
        finally:
            self._reading = None

    async def _trusted(self, server_id: bytes) -> Server | None:
        """The row of a server, unless it was trusted by the settings alone and they no longer list it."""
        row = await self._registry.server(server_id)
        return None if row is not None and row.listed and server_id not in self._trust.listed else row

    async def _public_key(self, server_id: bytes) -> PublicKey:
        cached = self._keys.get(server_id)
        if cached is not None and cached[1] > self._monotonic():
            return cached[0]
        row = await self._trusted(server_id)
        if row is None or not row.public_key:
            self._keys.pop(server_id, None)
            self._ids -= {server_id}
            raise ServerRejected(
                "unknown_server" if row is None and server_id not in self._trust.listed else "not_registered"
            )
        key = PublicKey.parse(row.public_key)
        # Unauthenticated clients cannot fill the cache: it holds known servers only. The limit is for many servers.
        if len(self._keys) >= _MAX_CACHED:
            self._keys.clear()
        self._keys[server_id] = key, self._monotonic() + _CACHE_SECONDS
        return key

    def _check_form(self, head: SignedHead) -> None:
        if not _TIMESTAMP.match(head.timestamp) or not _NONCE.match(head.nonce) or not head.signature:
            raise ServerRejected("malformed")
        ahead = int(head.timestamp) - self._clock()
        if abs(ahead) > SKEW_SECONDS:
            raise ServerRejected("clock", round(ahead))


def _server_id(head: SignedHead) -> bytes:
    try:
        return decode_hex(head.server_id, "X-Sigil-Server-Id", length=32)
    except InvalidRequest:
        raise ServerRejected("malformed") from None


def _signature(text: str) -> bytes:
    try:
        return decode_base64(text, "X-Sigil-Request-Signature")
    except InvalidRequest:
        raise ServerRejected("malformed") from None
