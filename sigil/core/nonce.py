"""Used nonces: a signed timestamp is accepted once, across all workers."""

from __future__ import annotations

import msgspec

from sigil.core.session_store import Decision, Key, Kind


class UsedNonce(msgspec.Struct, frozen=True, array_like=True, gc=False):
    delete_at: int

    @property
    def due(self) -> int:
        return self.delete_at


USED_NONCE = Kind(b"s", UsedNonce)


def use_once(key: Key, used: UsedNonce | None, delete_at: int) -> Decision[bool]:
    """True for the first use, False for any other; the row is kept until the Unix second `delete_at`."""
    if used is not None:
        return Decision(False)
    return Decision(True, ((key, UsedNonce(delete_at)),))
