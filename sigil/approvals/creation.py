"""A draft becomes a request that exists, once for its request_id, or not at all (docs/decisions/0014)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sigil.core import fan_out, voting
from sigil.core.approval import Approval, RequestIdRecord, approval_key, request_id_key
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Limits
from sigil.core.fan_out import MEMBERS_AT_ONCE
from sigil.core.session_store import Decision, Key, SessionStore, StoreFull
from sigil.core.voting import CreatedApproval
from sigil.protocol.errors import Overloaded, RateLimited, TooManyPending
from sigil.protocol.ids import uuid4_bytes
from sigil.sessions.capacity import Capacity

_TRIES = 3


class ApprovalCreator:
    """`limits` are those of each (owner, member)."""

    def __init__(
        self,
        *,
        store: SessionStore,
        limits: Limits,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        room: Capacity,
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._randomness = randomness
        self._room = room

    async def create(self, draft: Approval, body_sha256: bytes) -> CreatedApproval:
        """RequestIdConflict, RateLimited, TooManyPending, Overloaded."""
        mpa_id = uuid4_bytes(self._randomness(16))
        for _ in range(_TRIES):
            named, asked = await self._earlier(draft, body_sha256)
            if asked is not None:
                return asked
            self._room.check_approval(draft)
            try:
                asked = await self._try_to_enter(mpa_id, draft, body_sha256, named)
            except (TooManyPending, RateLimited) as limit:
                # What is in the way may be the same request, asked twice at once.
                _, asked = await self._earlier(draft, body_sha256)
                if asked is None:
                    raise _without_owner(limit) from limit
            except StoreFull as error:
                raise Overloaded(retry_after=5) from error
            if asked is not None:
                return asked
        raise Overloaded("The same request_id is in use by many requests at once.")

    async def _earlier(
        self, draft: Approval, body_sha256: bytes
    ) -> tuple[RequestIdRecord | None, CreatedApproval | None]:
        """What the request_id was used for, and the request if that is still known; RequestIdConflict."""
        named: RequestIdRecord | None = await self._store.get(request_id_key(draft.owner, draft.request_id))
        if named is None:
            return None, None
        earlier = await self._store.get(approval_key(named.mpa_id))
        return named, voting.repeat(self._clock(), named, body_sha256, earlier)

    async def _try_to_enter(
        self, mpa_id: bytes, draft: Approval, body_sha256: bytes, named: RequestIdRecord | None
    ) -> CreatedApproval | None:
        """None when the request_id came into use between our look at it and our transaction."""
        at = request_id_key(draft.owner, draft.request_id)
        members = range(len(draft.members))
        few = len(members) <= MEMBERS_AT_ONCE
        # A larger request is made last: until then it is nothing but entries that fade.
        entered = 0 if few else await self._enter_members(mpa_id, draft)
        keys = [at, *(_ledgers(draft, members) if few else ())]

        def rule(now: float, found: tuple[Any, ...]) -> Decision[CreatedApproval | None]:
            rows = dict(zip(keys, found, strict=True))
            if rows[at] != named:
                return Decision(None)
            entries = voting.enter(now, mpa_id, draft, members, rows, limits=self._limits) if few else []
            return voting.request(now, mpa_id, draft, body_sha256, entered=entries, stale=named)

        asked = None
        try:
            asked = await self._store.transact(keys, rule, creates=True)
        finally:
            if asked is None:
                await self._take_back(mpa_id, draft, entered)
        return asked

    async def _enter_members(self, mpa_id: bytes, draft: Approval) -> int:
        """All members' ledgers, a batch at a time, and how many; none of them when one may not be asked."""
        entered = 0
        try:
            while entered < len(draft.members):
                batch = fan_out.batch_after(draft, entered)
                await self._enter_batch(mpa_id, draft, batch)
                entered = batch.stop
                await asyncio.sleep(0)
            # Many others may have looked for room in the meantime, and found the same.
            self._room.check_approval(draft)
        except BaseException:
            await self._take_back(mpa_id, draft, entered)
            raise
        return entered

    async def _enter_batch(self, mpa_id: bytes, draft: Approval, batch: range) -> None:
        keys = _ledgers(draft, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[None]:
            rows = dict(zip(keys, found, strict=True))
            return Decision(None, tuple(voting.enter(now, mpa_id, draft, batch, rows, limits=self._limits)))

        await self._store.transact(keys, rule, creates=True)

    async def _take_back(self, mpa_id: bytes, draft: Approval, entered: int) -> None:
        for start in range(0, entered, MEMBERS_AT_ONCE):
            await self._take_batch_back(mpa_id, draft, fan_out.batch_after(draft, start))

    async def _take_batch_back(self, mpa_id: bytes, draft: Approval, batch: range) -> None:
        keys = _ledgers(draft, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[None]:
            rows = dict(zip(keys, found, strict=True))
            return Decision(None, tuple(voting.refund(now, mpa_id, draft, batch, rows, limits=self._limits)))

        await self._store.transact(keys, rule)


def _without_owner(limit: TooManyPending | RateLimited) -> TooManyPending | RateLimited:
    """Whose limit it is, the caller is not told."""
    told = "One of the members cannot be asked now; wait as long as Retry-After says."
    return type(limit)(told, retry_after=limit.retry_after, limit=limit.limit)


def _ledgers(draft: Approval, members: range) -> list[Key]:
    return [ledger_key(draft.members[member]) for member in members]
