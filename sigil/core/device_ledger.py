"""What one device is being asked, owner by owner: pending challenges, the rate of new ones, and mutes.

One row a device, so that the limits hold over all workers and `/device/pending` is one read.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sigil.protocol.errors import RateLimited, TooManyPending

MUTE_SECONDS = 60
MAX_MUTE_SECONDS = 900
# Enough to keep owners apart: their ids are random, and made by the operator alone. A row must stay small.
_OWNER_BYTES = 8
# The longest that anything may pend. What seems to have more left is from before the clock was set back: it is over,
# and must not be counted until that time comes again.
_LONGEST_SECONDS = 900
# How long a past mute still doubles the next one.
MUTE_MEMORY_SECONDS = 900


@dataclass(frozen=True)
class Limits:
    """Per (owner, device): challenges pending at once, and creations per minute (0: no limit)."""

    max_pending: int = 5
    per_minute: int = 10


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One owner's part, under the first 8 bytes of its id.

    `paid_until_ms` is the theoretical arrival time of the generic cell rate algorithm.
    """

    owner: bytes
    pending: tuple[tuple[bytes, int], ...] = ()
    paid_until_ms: int = 0
    muted_until: int = 0
    mutes: int = 0

    def alive(self, now: float) -> bool:
        return (
            any(_pends(now, expires) for _, expires in self.pending)
            or self.paid_until_ms > now * 1000
            or bool(self.mutes and self.muted_until + MUTE_MEMORY_SECONDS > now)
        )

    def forgiven(self, now: float) -> Tally:
        """Without mutes that are long past, so that the row is not due for ever."""
        if self.mutes and self.muted_until + MUTE_MEMORY_SECONDS <= now:
            return msgspec.structs.replace(self, mutes=0, muted_until=0)
        return self

    def without(self, challenge_id: bytes) -> Tally:
        return msgspec.structs.replace(self, pending=tuple(entry for entry in self.pending if entry[0] != challenge_id))


class Ledger(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`look_at`: when what it holds may have faded, of a device that was asked together with others."""

    tallies: tuple[Tally, ...] = ()
    look_at: int = 0

    @property
    def due(self) -> int:
        """Only mutes outlive the challenge whose removal prunes the row; a multi-party request prunes nobody's."""
        mutes = (tally.muted_until + MUTE_MEMORY_SECONDS for tally in self.tallies if tally.mutes)
        return max(self.look_at, *mutes, 0)

    def pending(self, now: float) -> list[bytes]:
        """Ids of what may still be pending, of all owners."""
        return [entry[0] for tally in self.tallies for entry in tally.pending if _pends(now, entry[1])]

    def enter_for_approval(self, now: float, owner: bytes, mpa_id: bytes, expires_at: int, limits: Limits) -> Ledger:
        """As `entered`, for one member of a multi-party request; the row fades by itself."""
        entered = self.with_pending(now, owner, mpa_id, expires_at, limits)
        return msgspec.structs.replace(entered, look_at=max(entered.look_at, expires_at))

    def refunded(self, owner: bytes, mpa_id: bytes, limits: Limits) -> Ledger:
        """As if that request had never been asked: another member of it could not be."""
        tally = self._tally(owner).without(mpa_id)
        paid = max(0, tally.paid_until_ms - 60_000 // limits.per_minute) if limits.per_minute else 0
        return self._with(msgspec.structs.replace(tally, paid_until_ms=paid))

    def with_pending(self, now: float, owner: bytes, challenge_id: bytes, expires_at: int, limits: Limits) -> Ledger:
        """With one more pending challenge; RateLimited or TooManyPending when the owner may not."""
        tally = self._tally(owner)
        _check_mute(now, tally)
        pending = tuple(entry for entry in tally.pending if _pends(now, entry[1]))
        if len(pending) >= limits.max_pending:
            raise TooManyPending(retry_after=int(min(expires for _, expires in pending) - now) + 1, limit="pending")
        paid_until_ms = _paid(now, tally.paid_until_ms, limits.per_minute)
        return self._with(
            msgspec.structs.replace(tally, pending=(*pending, (challenge_id, expires_at)), paid_until_ms=paid_until_ms)
        )

    def answered(
        self, now: float, owner: bytes, challenge_id: bytes, *, approved: bool, unknown_trigger: bool = False
    ) -> Ledger:
        """Without that challenge; "I did not ask for this" mutes the owner, an approval forgives past mutes."""
        tally = self._tally(owner).without(challenge_id)
        if approved:
            tally = msgspec.structs.replace(tally, mutes=0)
        elif unknown_trigger:
            remembered = tally.mutes if now < tally.muted_until + MUTE_MEMORY_SECONDS else 0
            seconds = min(MUTE_SECONDS << min(remembered, 4), MAX_MUTE_SECONDS)
            tally = msgspec.structs.replace(tally, mutes=remembered + 1, muted_until=int(now) + seconds)
        return self._with(tally)

    def removed(self, owner: bytes, challenge_id: bytes) -> Ledger:
        return self._with(self._tally(owner).without(challenge_id))

    def pruned(self, now: float) -> Ledger | None:
        """Only what still matters; None when nothing does."""
        alive = tuple(tally.forgiven(now) for tally in self.tallies if tally.alive(now))
        if not alive:
            return None
        return Ledger(alive, self._later(now, alive) if 0 < self.look_at <= now else self.look_at)

    @staticmethod
    def _later(now: float, alive: tuple[Tally, ...]) -> int:
        """When to look again: at the last of what may fade, and later than now."""
        ends = [expires for tally in alive for _, expires in tally.pending]
        ends += [-(-tally.paid_until_ms // 1000) for tally in alive]
        return max(*ends, int(now) + 1)

    def _tally(self, owner: bytes) -> Tally:
        name = owner[:_OWNER_BYTES]
        return next((tally for tally in self.tallies if tally.owner == name), Tally(name))

    def _with(self, changed: Tally) -> Ledger:
        others = (tally for tally in self.tallies if tally.owner != changed.owner)
        return Ledger((*others, changed), self.look_at)


def _pends(now: float, expires_at: int) -> bool:
    return now < expires_at <= now + _LONGEST_SECONDS


def _check_mute(now: float, tally: Tally) -> None:
    # Bounded from now, here and below: a clock that was set back must not shut a device out for as long.
    until = min(tally.muted_until, int(now) + MAX_MUTE_SECONDS)
    if tally.mutes and now < until:
        raise RateLimited(
            "The person did not expect the last challenge; this device is left in peace for a while.",
            retry_after=int(until - now) + 1,
            limit="muted",
        )


def _paid(now: float, paid_until_ms: int, per_minute: int) -> int:
    """The bucket of the generic cell rate algorithm after one creation: `per_minute` at once, refilled evenly."""
    if not per_minute:
        return 0
    now_ms = int(now * 1000)
    next_ms = max(min(paid_until_ms, now_ms + 60_000), now_ms) + 60_000 // per_minute
    over = next_ms - now_ms - 60_000
    if over > 0:
        raise RateLimited("Too many challenges for this device.", retry_after=-(-over // 1000), limit="device")
    return next_ms
