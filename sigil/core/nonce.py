"""What may be used once: a signed timestamp is spent by its first use, on whichever worker."""

from __future__ import annotations

import msgspec

from sigil.core.session_store import Decision, Key, Kind


class UsedNonce(msgspec.Struct, frozen=True, array_like=True, gc=False):
    until: int

    @property
    def due(self) -> int:
        return self.until


USED_NONCE = Kind(b"s", UsedNonce)


def use_once(key: Key, spent: UsedNonce | None, until: int) -> Decision[bool]:
    """True for the first use, False for any other; remembered until the Unix second `until`."""
    if spent is not None:
        return Decision(False)
    return Decision(True, ((key, UsedNonce(until)),))
