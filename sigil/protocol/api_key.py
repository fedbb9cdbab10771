"""Stateless API keys (docs/protocol.md, section 3)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from sigil.protocol.errors import Unauthorized

Prefix = Literal["sgk_live_", "sgk_test_"]
PREFIXES: tuple[Prefix, ...] = ("sgk_live_", "sgk_test_")
ID_LENGTH = 16

_KEY = re.compile(r"(sgk_(?:live|test)_)([0-9a-f]{32})([0-9a-f]{32})\Z", re.ASCII)
# Verified keys that a ring remembers.
_MAX_KNOWN = 4096
REVOCATION = re.compile(r"[0-9a-f]{8,32}\Z")


# The start of a computed key; the hex of its id follows. Looser than `_KEY`: a revocation also holds for a key that is
# pre-set in another case, cut short, or with more behind it.
_COMPUTED_FORM = re.compile(r"sgk_(?:live|test)_", re.ASCII | re.IGNORECASE)


class Caller(NamedTuple):
    """An authenticated caller. `owner` is the 16-byte id of its API key: only that key sees the objects it created."""

    owner: bytes

    @property
    def key_id(self) -> str:
        """The first 8 hex of the owner: for display, logs and metrics only."""
        return self.owner[:4].hex()


def issue_api_key(secret: bytes, prefix: Prefix, key_id: bytes) -> str:
    """The API key for a 16-byte random id, authenticated with the API key secret of the server's identity."""
    if len(key_id) != ID_LENGTH:
        raise ValueError(f"an API key's id is {ID_LENGTH} bytes")
    return prefix + key_id.hex() + _tag(secret, prefix, key_id).hex()


def _tag(secret: bytes, prefix: str, key_id: bytes) -> bytes:
    return hmac.digest(secret, prefix.encode("ascii") + key_id, "sha256")[:16]


def preset_owner(key: str) -> bytes:
    return hashlib.sha256(b"sigil-preset-key\0" + key.encode()).digest()[:ID_LENGTH]


def has_computed_form(key: str) -> bool:
    """Whether a key looks like a computed key, of this server or of another."""
    return _COMPUTED_FORM.match(key) is not None


def is_revoked(key: str, revoked: tuple[str, ...]) -> bool:
    """Whether a key of the computed form has an id that begins with one of `revoked`."""
    if not revoked:
        return False
    form = _COMPUTED_FORM.match(key)
    return form is not None and key[form.end() :].lower().startswith(revoked)


class KeyRing:
    """Authenticates API keys: pre-set keys, which may have any form, and computed keys.

    `revoked` lists prefixes of revoked key ids, 8..32 hex characters each; a malformed one raises ValueError. A
    revoked key is rejected also where it is pre-set. A computed key of this server that is pre-set keeps its owner.
    With `live_only`, computed test keys are rejected, unless they are pre-set.
    """

    def __init__(
        self, secret: bytes, *, preset: Iterable[str] = (), revoked: Iterable[str] = (), live_only: bool = False
    ) -> None:
        self._secret = secret
        # Hashes have equal lengths, so that the time of a comparison does not reveal the length of a key.
        self._preset = [(hashlib.sha256(key.encode()).digest(), self._preset_identity(key)) for key in preset]
        self._revoked = tuple(revoked)
        if not all(REVOCATION.match(item) for item in self._revoked):
            raise ValueError("a revocation is 8 to 32 lower-case hex characters of a key's id")
        self._live_only = live_only
        # The callers of valid keys by the SHA-256 of the key: the check of a tag takes 15 µs under load. A key is not
        # revoked during the life of a ring, and only valid keys are here, so no client chooses their number.
        self._known: dict[bytes, Caller] = {}

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller of an Authorization header. Raises Unauthorized, the same for every reason."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return self._known.get(digest) or self._check(key, digest)

    def _check(self, key: str, digest: bytes) -> Caller:
        caller = self._preset_caller(digest) or self._computed_caller(key)
        if caller is None or is_revoked(key, self._revoked):
            raise Unauthorized
        if len(self._known) == _MAX_KNOWN:
            self._known.clear()
        self._known[digest] = caller
        return caller

    def _preset_identity(self, key: str) -> Caller:
        """The owner of a pre-set key: a computed key of this server has the same owner as without API_KEY."""
        computed = self._verified(key)
        return Caller(computed[1] if computed else preset_owner(key))

    def _preset_caller(self, digest: bytes) -> Caller | None:
        found = None
        for known, caller in self._preset:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _computed_caller(self, key: str) -> Caller | None:
        computed = self._verified(key)
        if computed is None or (self._live_only and computed[0] == "sgk_test_"):
            return None
        return Caller(computed[1])

    def _verified(self, key: str) -> tuple[str, bytes] | None:
        """The prefix and the id of a computed key with the right tag."""
        match = _KEY.match(key)
        if match is None:
            return None
        prefix, id_hex, tag_hex = match.groups()
        key_id = bytes.fromhex(id_hex)
        valid = hmac.compare_digest(_tag(self._secret, prefix, key_id), bytes.fromhex(tag_hex))
        return (prefix, key_id) if valid else None
