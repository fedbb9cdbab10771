"""The service of multi-party approval: ask, vote, look, wait, cancel (docs/protocol.md, 5.3)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Protocol

from sigil.approvals.creation import ApprovalCreator
from sigil.approvals.drafts import DraftBuilder
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.approvals.messages import ApprovalMessages
from sigil.core import fan_out, voting
from sigil.core.approval import (
    Approval,
    RequestIdRecord,
    Vote,
    approval_key,
    member_name,
    request_id_key,
    settle,
    vote_key,
)
from sigil.core.challenge import ledger_key
from sigil.core.fan_out import MEMBERS_AT_ONCE
from sigil.core.push_outbox import outbox_key
from sigil.core.session_store import Decision, SessionStore, with_ended_flag
from sigil.core.voting import Ballot, Counted
from sigil.delivery.backlog import PushBacklog
from sigil.delivery.undelivered import Events
from sigil.protocol import approval_messages as messages
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding import decode_base64
from sigil.protocol.errors import AlreadyAnswered, InvalidSignature, MpaClosed, MpaNotFound
from sigil.protocol.ids import parse_uuid
from sigil.protocol.keys import PublicKey
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.long_polls import LongPolls

# Votes that are read between two looks at other requests: a quarter of a millisecond.
_AT_ONCE = 50


class Journal(Protocol):
    """Where the service tells what happened: one call an event, never with a secret in it.

    `device` is the public key of the member that it is about.
    """

    def __call__(self, event: str, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> None: ...


class Approvals:
    """Collaborators: drafts of requests and their register, what is signed and who may be named, session store, this
    worker's waiters, outgoing pushes, fan-outs and events, clock.
    """

    def __init__(
        self,
        *,
        drafts: DraftBuilder,
        register: ApprovalCreator,
        messages: ApprovalMessages,
        devices: DeviceResolver,
        store: SessionStore,
        waiters: LongPolls,
        journal: Journal,
        clock: Callable[[], float],
        outgoing: PushBacklog,
        fan_outs: FanOutWorker,
        events: Events,
    ) -> None:
        self._drafts = drafts
        self._register = register
        self._messages = messages
        self._devices = devices
        self._store = store
        self._waiters = waiters
        self._journal = journal
        self._clock = clock
        self._outgoing = outgoing
        self._fan_outs = fan_outs
        self._events = events

    async def request(
        self, caller: Caller, wanted: messages.CreateMpa, body: bytes
    ) -> tuple[messages.MpaCreated, bool]:
        """Ask all members. The flag says that the request_id brought back an earlier request, of the same `body`."""
        draft = await self._drafts.build(caller, wanted)
        asked = await self._register.create(draft, hashlib.sha256(body).digest())
        if not asked.repeated:
            self._journal("mpa_created", asked.mpa_id, asked.approval)
            self._enqueue_pushes(asked.mpa_id, asked.approval)
        return self._messages.created(asked.mpa_id, asked.approval), asked.repeated

    async def answer(self, given: messages.RespondMpa) -> messages.MpaResponded:
        """A member's answer: exists, member and signature, eligible, its first, not ended, in time."""
        approved = given.decision == "approved"
        is_presented = self._devices.matcher(given.device_public_key, given.fingerprint)
        signature = decode_base64(given.signature, "$.signature")
        mpa_id, approval = await self._readable(given.mpa_id)
        member = next((number for number, wire in enumerate(approval.members) if is_presented(wire)), None)
        if member is None:
            raise self._refused(mpa_id, approval)
        device = PublicKey.parse(approval.members[member])
        if not device.verify(self._messages.answer_bytes(mpa_id, approval, approved=approved), signature):
            raise self._refused(mpa_id, approval, device.wire)
        ballot = Ballot(member, approved, device.normalised(signature), "" if approved else given.reason or "")
        counted = await self._count(mpa_id, approval, ballot)
        return self._messages.responded(device, approval.quorum.group_of(member), counted)

    def _refused(self, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> InvalidSignature:
        self._journal("mpa_signature_failed", mpa_id, approval, device)
        return InvalidSignature()

    async def _count(self, mpa_id: bytes, seen: Approval, ballot: Ballot) -> Counted:
        device = seen.members[ballot.member]
        keys = [approval_key(mpa_id), ledger_key(device)]
        if seen.pushed:
            keys.append(outbox_key(member_name(mpa_id, ballot.member)))
        if voting.may_end(seen, ballot):
            keys = list(dict.fromkeys([*keys, *fan_out.rows_at_end(mpa_id, seen)]))

        def rule(now: float, found: tuple[Any, ...]) -> Decision[Counted]:
            rows = dict(zip(keys, found, strict=True))
            return voting.vote(now, mpa_id, ballot, rows, emit_event=self._events.enabled)

        try:
            counted = await self._store.transact(keys, rule)
        except (AlreadyAnswered, MpaClosed):
            self._journal("mpa_replay_blocked", mpa_id, seen, device)
            raise
        self._journal("mpa_vote", mpa_id, counted.approval, device)
        self._ended(mpa_id, counted.approval)
        return counted

    def _ended(self, mpa_id: bytes, approval: Approval) -> None:
        """Told after a decision that may have ended it."""
        if not approval.open:
            self._events.enqueued(mpa_id)
            self._journal(f"mpa_{approval.state.word}", mpa_id, approval)
            self._enqueue_pushes(mpa_id, approval)

    def _enqueue_pushes(self, mpa_id: bytes, approval: Approval) -> None:
        """The first batch was written with the decision; the rest, if any, is still to be."""
        for member in fan_out.batch_after(approval, 0):
            if approval.unanswered(member):
                self._outgoing.enqueued(member_name(mpa_id, member))
        if len(approval.members) > MEMBERS_AT_ONCE:
            self._fan_outs.enqueued(mpa_id)

    async def status(self, caller: Caller, request_id: str, wait: int = 0) -> messages.MpaStatus:
        """How it stands and who voted, after at most `wait` seconds: as soon as it is final."""
        mpa_id, approval = await self._owned(caller, request_id)
        if wait and approval.open:
            approval = await self._when_final(caller, request_id, mpa_id, wait)
        return await self._told(mpa_id, approval)

    async def _when_final(self, caller: Caller, request_id: str, mpa_id: bytes, wait: int) -> Approval:
        async def look() -> tuple[Approval, float | None]:
            _, approval = await self._owned(caller, request_id)
            return approval, approval.expires_at - self._clock() if approval.open else None

        return await self._waiters.until_final(mpa_id, wait, look)

    async def cancel(self, caller: Caller, request_id: str) -> messages.MpaStatus:
        """Take a pending request back; again is no error."""
        mpa_id, seen = await self._owned(caller, request_id)
        keys = [approval_key(mpa_id), *fan_out.rows_at_end(mpa_id, seen)]

        def rule(now: float, found: tuple[Any, ...]) -> Decision[tuple[Approval, bool]]:
            return with_ended_flag(voting.cancel(now, mpa_id, dict(zip(keys, found, strict=True))))

        cancelled, here = await self._store.transact(keys, rule)
        if here:
            self._ended(mpa_id, cancelled)
        return await self._told(mpa_id, cancelled)

    async def _told(self, mpa_id: bytes, approval: Approval) -> messages.MpaStatus:
        votes: dict[int, Vote] = {}
        for number, member in enumerate(approval.answered(), 1):
            vote: Vote | None = await self._store.get(vote_key(mpa_id, member))
            if vote is None:
                # A vote outlives its request: where one is gone, the request is gone too.
                raise MpaNotFound
            votes[member] = vote
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return self._messages.status(mpa_id, approval, votes)

    async def _readable(self, mpa_id: str) -> tuple[bytes, Approval]:
        key = parse_uuid(mpa_id)
        return await self._found(key)

    async def _owned(self, caller: Caller, request_id: str) -> tuple[bytes, Approval]:
        """By the owner's name for it: for another owner it does not exist."""
        named: RequestIdRecord | None = await self._store.get(request_id_key(caller.owner, request_id))
        return await self._found(None if named is None else named.mpa_id)

    async def _found(self, mpa_id: bytes | None) -> tuple[bytes, Approval]:
        row = None if mpa_id is None else await self._store.get(approval_key(mpa_id))
        approval = settle(self._clock(), row)
        if mpa_id is None or approval is None:
            raise MpaNotFound
        return mpa_id, approval
