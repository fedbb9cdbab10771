"""The ledger of one device, per owner: pending challenges and requests, the rate of new ones, and mutes.

One row per device: so the limits hold across all workers, and `/device/pending` is one read.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sigil.core.session_store import OWNER_BYTES
from sigil.protocol.errors import RateLimited, TooManyPending

MUTE_SECONDS = 60
MAX_MUTE_SECONDS = 900
# The longest lifetime of a pending entry. An entry with more time left is from before the clock was set back: it has
# ended, and must not count until that time comes again.
_LONGEST_SECONDS = 900
# How long a past mute doubles the next one.
MUTE_MEMORY_SECONDS = 900


@dataclass(frozen=True)
class Limits:
    """Per (owner, device): challenges pending at the same time, and creations per minute (0: no limit)."""

    max_pending: int = 5
    per_minute: int = 10


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The entries of one owner, by the first 8 bytes of its id.

    `theoretical_arrival_ms` is that of the generic cell rate algorithm, in Unix milliseconds.
    """

    owner: bytes
    pending: tuple[tuple[bytes, int], ...] = ()
    theoretical_arrival_ms: int = 0
    muted_until: int = 0
    mutes: int = 0

    def is_needed(self, now: float) -> bool:
        return (
            any(_is_pending(now, expires) for _, expires in self.pending)
            or self.theoretical_arrival_ms > now * 1000
            or bool(self.mutes and self.muted_until + MUTE_MEMORY_SECONDS > now)
        )

    def muted_for(self, now: float) -> int:
        """Seconds, rounded up; 0: not muted."""
        # Bounded from now, here and in `_charge`: after the clock was set back, a mute must not last longer than its
        # maximum.
        until = min(self.muted_until, int(now) + MAX_MUTE_SECONDS)
        return int(until - now) + 1 if self.mutes and now < until else 0

    def without_past_mutes(self, now: float) -> Tally:
        """Without mutes past MUTE_MEMORY_SECONDS, so that the row is not due forever."""
        if self.mutes and self.muted_until + MUTE_MEMORY_SECONDS <= now:
            return msgspec.structs.replace(self, mutes=0, muted_until=0)
        return self

    def without(self, challenge_id: bytes) -> Tally:
        return msgspec.structs.replace(self, pending=tuple(entry for entry in self.pending if entry[0] != challenge_id))


class Ledger(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`check_at`: when its entries of approval requests may have expired."""

    tallies: tuple[Tally, ...] = ()
    check_at: int = 0

    @property
    def due(self) -> int:
        """Only mutes outlive a challenge, whose removal prunes the row. An approval request prunes no ledger, so that
        `check_at` is due as well.
        """
        mutes = (tally.muted_until + MUTE_MEMORY_SECONDS for tally in self.tallies if tally.mutes)
        return max(self.check_at, *mutes, 0)

    def pending(self, now: float) -> list[bytes]:
        """Ids of challenges and requests that may still be pending, of all owners."""
        return [entry[0] for tally in self.tallies for entry in tally.pending if _is_pending(now, entry[1])]

    def enter_for_approval(self, now: float, owner: bytes, mpa_id: bytes, expires_at: int, limits: Limits) -> Ledger:
        """As `with_pending`, for one member of an approval request; the row becomes due by itself."""
        entered = self.with_pending(now, owner, mpa_id, expires_at, limits)
        return msgspec.structs.replace(entered, check_at=max(entered.check_at, expires_at))

    def refunded(self, owner: bytes, mpa_id: bytes, limits: Limits) -> Ledger:
        """Without a request that was not created, because a limit of another member rejected it."""
        tally = self._tally(owner).without(mpa_id)
        arrival_ms = max(0, tally.theoretical_arrival_ms - 60_000 // limits.per_minute) if limits.per_minute else 0
        return self._with(msgspec.structs.replace(tally, theoretical_arrival_ms=arrival_ms))

    def with_pending(self, now: float, owner: bytes, challenge_id: bytes, expires_at: int, limits: Limits) -> Ledger:
        """With one more pending challenge; RateLimited or TooManyPending by the limits."""
        tally = self._tally(owner)
        _check_mute(now, tally)
        pending = tuple(entry for entry in tally.pending if _is_pending(now, entry[1]))
        if len(pending) >= limits.max_pending:
            raise TooManyPending(retry_after=int(min(expires for _, expires in pending) - now) + 1, limit="pending")
        arrival_ms = _charge(now, tally.theoretical_arrival_ms, limits.per_minute)
        return self._with(
            msgspec.structs.replace(
                tally, pending=(*pending, (challenge_id, expires_at)), theoretical_arrival_ms=arrival_ms
            )
        )

    def with_answer(
        self, now: float, owner: bytes, challenge_id: bytes, *, approved: bool, unknown_trigger: bool = False
    ) -> Ledger:
        """Without that challenge. `unknown_trigger` mutes the owner; an approval clears past mutes."""
        tally = self._tally(owner).without(challenge_id)
        if approved:
            tally = msgspec.structs.replace(tally, mutes=0)
        elif unknown_trigger:
            past_mutes = tally.mutes if now < tally.muted_until + MUTE_MEMORY_SECONDS else 0
            seconds = min(MUTE_SECONDS << min(past_mutes, 4), MAX_MUTE_SECONDS)
            tally = msgspec.structs.replace(tally, mutes=past_mutes + 1, muted_until=int(now) + seconds)
        return self._with(tally)

    def removed(self, owner: bytes, challenge_id: bytes) -> Ledger:
        return self._with(self._tally(owner).without(challenge_id))

    def pruned(self, now: float) -> Ledger | None:
        """Without entries that have no effect any more; None when none is left."""
        needed = tuple(tally.without_past_mutes(now) for tally in self.tallies if tally.is_needed(now))
        if not needed:
            return None
        return Ledger(needed, self._next_check(now, needed) if 0 < self.check_at <= now else self.check_at)

    @staticmethod
    def _next_check(now: float, tallies: tuple[Tally, ...]) -> int:
        """The next check: when the last entry expires, and later than now."""
        ends = [expires for tally in tallies for _, expires in tally.pending]
        ends += [-(-tally.theoretical_arrival_ms // 1000) for tally in tallies]
        return max(*ends, int(now) + 1)

    def _tally(self, owner: bytes) -> Tally:
        name = owner[:OWNER_BYTES]
        return next((tally for tally in self.tallies if tally.owner == name), Tally(name))

    def _with(self, changed: Tally) -> Ledger:
        others = (tally for tally in self.tallies if tally.owner != changed.owner)
        return Ledger((*others, changed), self.check_at)


def _is_pending(now: float, expires_at: int) -> bool:
    return now < expires_at <= now + _LONGEST_SECONDS


def _check_mute(now: float, tally: Tally) -> None:
    if seconds := tally.muted_for(now):
        raise RateLimited(
            "The user did not expect the last challenge: this device takes no challenge from this API key for a while.",
            retry_after=seconds,
            limit="muted",
        )


def _charge(now: float, arrival_ms: int, per_minute: int) -> int:
    """The new theoretical arrival time after one creation: a burst of `per_minute`, refilled evenly."""
    if not per_minute:
        return 0
    now_ms = int(now * 1000)
    next_ms = max(min(arrival_ms, now_ms + 60_000), now_ms) + 60_000 // per_minute
    excess_ms = next_ms - now_ms - 60_000
    if excess_ms > 0:
        raise RateLimited("Too many challenges for this device.", retry_after=-(-excess_ms // 1000), limit="device")
    return next_ms
