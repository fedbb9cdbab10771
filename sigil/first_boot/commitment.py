"""What the wizard commits once, and the port of where it is kept."""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

import msgspec

from sigil.protocol.identity import DerivedSecrets

SESSION_SECONDS = 30 * 60
"""How long whoever committed may make API keys."""


class Session(msgspec.Struct, frozen=True):
    """Of its token only the hash is kept; `until` is a Unix time in seconds."""

    token_sha256: bytes
    until: int

    @classmethod
    def of(cls, token: str, now: float) -> Session:
        return cls(_hash(token), int(now) + SESSION_SECONDS)

    def is_over(self, now: float) -> bool:
        return now >= self.until

    def opens(self, token: str, now: float) -> bool:
        """In constant time for any token."""
        return hmac.compare_digest(self.token_sha256, _hash(token)) and not self.is_over(now)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Commitment(msgspec.Struct, frozen=True):
    """The secrets of an identity, never words or seed, and the session of who committed them."""

    secrets: DerivedSecrets
    session: Session

    def __repr__(self) -> str:
        return "Commitment(…)"


class AlreadyCommitted(Exception):
    """Another was faster; nothing was changed."""


class VaultUnusable(Exception):
    """The place of the secrets cannot be read or written; the message holds nothing of them."""


class Vault(Protocol):
    """Keeps one commitment for all workers of a host; raises VaultUnusable."""

    def is_committed(self) -> bool:
        """Asked before each request of init mode: one stat."""

    def commit(self, commitment: Commitment) -> None:
        """All of it or nothing; AlreadyCommitted for all but the first."""

    def read(self) -> Commitment | None:
        """None while nothing is committed."""
