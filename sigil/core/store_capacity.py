"""What creations may still use of the session store: pending rows keep the space of their ends, so creation stops long
before the store is full of bytes. In 16 MiB, 20 000 pending challenges stop it with 63 % in use; with webhooks 12 000,
with 38 %."""

from __future__ import annotations

from sigil.core.session_store import CREATION_RESERVE, Usage

BYTES_PER_END = 768
"""Bytes of the store kept free for each pending row. Its end, with its event, adds less (640 measured: a sweep writes
names in their order, which leaves new pages half full). So every pending row can end, even while the webhook receiver
takes no event."""
BYTES_PER_END_WITHOUT_EVENT = 256
"""The same where no event is written: an end then adds the clear, a mute and an entry of the end log."""
_BYTES_OF_COPIES = 1 << 20
"""Kept free for the pages that a running transaction copies, about one of 4 KiB for each of 200 rows: the store reuses
them two transactions later. In a store of 12 MiB without this, one expiry sweep in 25 found the store full."""


def free_for_ends(usage: Usage, pending: int, bytes_per_end: int) -> int:
    """The bytes that no pending row needs; below 0 the store lacks the space for the end of one more."""
    copies = min(_BYTES_OF_COPIES, usage.size // 16)
    return usage.size - copies - usage.used - usage.reserved - pending * bytes_per_end


def free_for_creations(usage: Usage, pending: int, bytes_per_end: int) -> int:
    """The bytes that new challenges and requests may use; from 0 on they are rejected."""
    below_reserve = int((1 - CREATION_RESERVE) * usage.size) - usage.used
    return min(free_for_ends(usage, pending, bytes_per_end), below_reserve)
