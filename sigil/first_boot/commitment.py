"""The commitment of the wizard, which is made once, and the port of the vault that keeps it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

import msgspec

from sigil.protocol.identity import DerivedSecrets

SESSION_SECONDS = 30 * 60
"""How long the page that committed may issue API keys."""


class Session(msgspec.Struct, frozen=True):
    """The session of the page that committed. Only the hash of its token is kept; `until` is Unix seconds."""

    token_sha256: bytes
    until: int

    @classmethod
    def begin(cls, token: str, now: float) -> Session:
        return cls(_hash(token), int(now) + SESSION_SECONDS)

    def is_expired(self, now: float) -> bool:
        return now >= self.until

    def accepts(self, token: str, now: float) -> bool:
        """Whether the token is the right one, compared in constant time, and the session has not expired."""
        return hmac.compare_digest(self.token_sha256, _hash(token)) and not self.is_expired(now)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Commitment(msgspec.Struct, frozen=True):
    """The derived secrets of an identity, never mnemonic or seed, and the session of the page that committed."""

    secrets: DerivedSecrets
    session: Session

    def __repr__(self) -> str:
        return "Commitment(…)"


class AlreadyCommitted(Exception):
    """Another commitment exists already; nothing was changed."""


class VaultUnusable(Exception):
    """The vault cannot be read or written; the message contains no secret."""


class VaultOutdated(VaultUnusable):
    """An older version wrote it: it lacks secrets that only the mnemonic gives."""


class Vault(Protocol):
    """Keeps one commitment for all workers of a host. Its methods raise VaultUnusable."""

    def is_committed(self) -> bool:
        """Called before each request of init mode, so it may cost no more than one stat."""

    def commit(self, commitment: Commitment) -> None:
        """Store it atomically. Raises AlreadyCommitted for all but the first."""

    def read(self) -> Commitment | None:
        """None while nothing is committed."""
