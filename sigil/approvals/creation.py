"""Stores a draft as a request: once for its request_id, and completely or not at all (docs/decisions/0014)."""

from __future__ import annotations

import asyncio
from typing import Any

from sigil.core.approvals import fan_out, voting
from sigil.core.approvals.approval import Approval, RequestIdRecord, approval_key, request_id_key
from sigil.core.approvals.fan_out import MEMBERS_AT_ONCE
from sigil.core.approvals.voting import CreatedApproval
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Limits
from sigil.core.owner_share import OWN_LIMITS, OwnerShare
from sigil.core.session_store import Decision, Key, StoreFull, tally_key
from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.protocol.errors import Overloaded, RateLimited, TooManyPending
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.runtime import SessionRuntime

_TRIES = 3


class ApprovalCreator:
    """`limits` are per (owner, member)."""

    def __init__(self, runtime: SessionRuntime, limits: Limits) -> None:
        self._limits = limits
        self._store = runtime.store
        self._capacity = runtime.capacity
        self._clock = runtime.store.now
        self._expiry = ExpirySweeper(runtime.store, runtime.notifier)
        self._randomness = runtime.randomness

    def new_id(self) -> bytes:
        return uuid4_bytes(self._randomness(16))

    async def create(self, mpa_id: bytes, draft: Approval, body_sha256: bytes) -> CreatedApproval:
        """RequestIdConflict, RateLimited, TooManyPending, Overloaded."""
        for _ in range(_TRIES):
            record, created = await self._earlier(draft, body_sha256)
            if created is not None:
                return created
            share = self._capacity.check_approval(draft)
            # Also before the transaction that creates it: a large request enters the ledgers of its members first.
            share.check(await self._store.get(tally_key(draft.owner)), draft.share)
            try:
                created = await self._try_create(mpa_id, draft, body_sha256, record, share)
            except (TooManyPending, RateLimited) as limit:
                # The limit may be used up by the same request, sent twice at the same time.
                _, created = await self._earlier(draft, body_sha256)
                if created is None:
                    raise _without_owner(limit) from limit
            except StoreFull as error:
                raise Overloaded(retry_after=5) from error
            if created is not None:
                return created
        raise Overloaded("The same request_id is in use by many requests at once.")

    async def _earlier(
        self, draft: Approval, body_sha256: bytes
    ) -> tuple[RequestIdRecord | None, CreatedApproval | None]:
        """The record of the request_id, and its request if the store still holds it; RequestIdConflict."""
        record: RequestIdRecord | None = await self._store.get(request_id_key(draft.owner, draft.request_id))
        if record is None:
            return None, None
        earlier = await self._expiry.settled(approval_key(record.mpa_id))
        return record, voting.find_earlier(self._clock(), record, body_sha256, earlier)

    async def _try_create(
        self, mpa_id: bytes, draft: Approval, body_sha256: bytes, record: RequestIdRecord | None, share: OwnerShare
    ) -> CreatedApproval | None:
        """None when the request_id came into use between the read and the transaction."""
        at = request_id_key(draft.owner, draft.request_id)
        members = range(len(draft.members))
        few = len(members) <= MEMBERS_AT_ONCE
        # The row of a larger request is written last: until then there are only ledger entries, which expire.
        entered = 0 if few else await self._enter_members(mpa_id, draft)
        tally = tally_key(draft.owner)
        keys = [at, tally, *(_ledgers(draft, members) if few else ())]

        def rule(now: float, found: tuple[Any, ...]) -> Decision[CreatedApproval | None]:
            rows = dict(zip(keys, found, strict=True))
            if rows[at] != record:
                return Decision(None)
            share.check(rows[tally], draft.share)
            entries = voting.enter(now, mpa_id, draft, members, rows, limits=self._limits) if few else []
            return voting.create(now, mpa_id, draft, body_sha256, entered=entries, stale=record)

        created = None
        try:
            created = await self._store.transact(keys, rule, creates=True)
        finally:
            if created is None:
                await self._refund_members(mpa_id, draft, entered)
        return created

    async def _enter_members(self, mpa_id: bytes, draft: Approval) -> int:
        """Enter the request in all members' ledgers, batch by batch; returns how many. An error undoes all of them."""
        entered = 0
        try:
            while entered < len(draft.members):
                batch = fan_out.batch_after(draft, entered)
                await self._enter_batch(mpa_id, draft, batch)
                entered = batch.stop
                await asyncio.sleep(0)
            # Other requests may have passed the same capacity check in the meantime.
            self._capacity.check_approval(draft)
        except BaseException:
            await self._refund_members(mpa_id, draft, entered)
            raise
        return entered

    async def _enter_batch(self, mpa_id: bytes, draft: Approval, batch: range) -> None:
        keys = _ledgers(draft, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[None]:
            rows = dict(zip(keys, found, strict=True))
            return Decision(None, tuple(voting.enter(now, mpa_id, draft, batch, rows, limits=self._limits)))

        await self._store.transact(keys, rule, creates=True)

    async def _refund_members(self, mpa_id: bytes, draft: Approval, entered: int) -> None:
        for start in range(0, entered, MEMBERS_AT_ONCE):
            await self._refund_batch(mpa_id, draft, fan_out.batch_after(draft, start))

    async def _refund_batch(self, mpa_id: bytes, draft: Approval, batch: range) -> None:
        keys = _ledgers(draft, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[None]:
            rows = dict(zip(keys, found, strict=True))
            return Decision(None, tuple(voting.refund(now, mpa_id, draft, batch, rows, limits=self._limits)))

        await self._store.transact(keys, rule)


def _without_owner(limit: TooManyPending | RateLimited) -> TooManyPending | RateLimited:
    """The same error without the member whose limit it is: the caller must not learn that."""
    if limit.limit in OWN_LIMITS:
        return limit
    message = "A limit of one of the members is reached; try again after the seconds in Retry-After."
    return type(limit)(message, retry_after=limit.retry_after, limit=limit.limit)


def _ledgers(draft: Approval, members: range) -> list[Key]:
    return [ledger_key(draft.members[member]) for member in members]
