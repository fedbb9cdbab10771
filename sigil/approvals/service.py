"""The service of approval requests: create, vote, query, wait, cancel (docs/protocol.md, 5.3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigil.approvals.creation import ApprovalCreator
from sigil.approvals.drafts import DraftBuilder
from sigil.approvals.messages import ApprovalMessages
from sigil.approvals.statuses import Statuses
from sigil.attestation.service import Attestation
from sigil.core.approvals import fan_out, voting
from sigil.core.approvals.approval import (
    Approval,
    RequestIdRecord,
    State,
    approval_key,
    current_state,
    member_name,
    request_id_key,
)
from sigil.core.approvals.voting import Ballot, CountedVote
from sigil.core.challenge import ledger_key
from sigil.core.device_ledger import Limits
from sigil.core.pushes.outbox import outbox_key
from sigil.core.session_store import Decision, with_ended_flag
from sigil.core.tracing import RequestTracePort, Subject
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid, parse_uuid
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import AlreadyAnswered, InvalidSignature, MpaClosed, MpaExpired, MpaNotFound
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import approvals as messages
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.runtime import SessionRuntime


@dataclass(frozen=True)
class ApprovalPolicy:
    """The settings of approval requests.

    `limits` are per (owner, member). With `exclude_requester` the device in `params.requested_by` may not vote.
    `respond_to` is empty when devices use their pinned address.
    """

    limits: Limits = field(default_factory=Limits)
    exclude_requester: bool = False
    respond_to: str = ""


class Approvals:
    """`messages` signs for this server's identity."""

    def __init__(
        self, runtime: SessionRuntime, *, messages: ApprovalMessages, policy: ApprovalPolicy, attestation: Attestation
    ) -> None:
        self._messages = messages
        self._attestation = attestation
        self._statuses = Statuses(runtime.store, messages)
        self._drafts = DraftBuilder(
            runtime,
            exclude_requester=policy.exclude_requester,
            respond_to=policy.respond_to,
            attested=attestation.enabled,
        )
        self._creator = ApprovalCreator(runtime, policy.limits)
        self._notifier = runtime.notifier
        self._emit_events = runtime.notifier.event_backlog.enabled
        self._devices = runtime.devices
        self._store = runtime.store
        self._long_polls = runtime.long_polls
        self._clock = runtime.store.now
        self._expiry = ExpirySweeper(runtime.store, runtime.notifier)

    async def request(
        self, caller: Caller, body: messages.CreateMpa, raw_body: bytes, trace: RequestTracePort | None = None
    ) -> tuple[messages.MpaCreated, bool]:
        """Create a request. The flag: the request_id is known with the same `raw_body`; this is its request."""
        draft = await self._drafts.build(caller, body)
        mpa_id = self._creator.new_id()
        create = None
        if trace is not None:
            create = trace.create("sigil.push", _subject(mpa_id), draft.eligible) if draft.pushed else None
            draft = msgspec.structs.replace(draft, creation=create.packed if create is not None else trace.packed)
        created = await self._creator.create(mpa_id, draft, hashlib.sha256(raw_body).digest())
        if trace is not None:
            trace.about(_subject(created.mpa_id), created.approval.creation if created.repeated else None)
            if create is not None and not created.repeated:
                create.end()
        if not created.repeated:
            self._notifier.approval_created(created.mpa_id, created.approval)
        return self._messages.created(created.mpa_id, created.approval), created.repeated

    async def answer(
        self, response: messages.RespondMpa, trace: RequestTracePort | None = None
    ) -> messages.MpaResponded:
        """A member's vote. Checks in order: known, member and signature, eligible, first vote, not ended, in time,
        credential.
        """
        approved = response.decision == "approved"
        is_presented = self._devices.matcher(response.device_public_key, response.fingerprint)
        signature = decode_base64(response.signature, "$.signature")
        mpa_id, approval = await self._found(parse_uuid(response.mpa_id.lower()))
        if trace is not None:
            trace.about(_subject(mpa_id), approval.creation)
        member = next((number for number, wire in enumerate(approval.members) if is_presented(wire)), None)
        if member is None:
            raise self._invalid_signature(mpa_id, approval)
        device = PublicKey.parse(approval.members[member])
        if not device.verify(self._messages.answer_bytes(mpa_id, approval, approved=approved), signature):
            raise self._invalid_signature(mpa_id, approval, device.wire)
        # What was answered or has ended is 409 or 410 first. A rejection needs nothing, also of a revoked device.
        credential = None
        if approved and approval.is_pending_for(member):
            self._devices.require_not_revoked(device)
            credential = self._attestation.check(device, response.device_credential)
        ballot = Ballot(
            member,
            approved,
            device.normalised(signature),
            "" if approved else response.reason or "",
            credential.public.packed if credential else b"",
        )
        counted = await self._count(mpa_id, approval, ballot, trace)
        return self._messages.responded(device, approval.quorum.group_of(member), counted)

    def _invalid_signature(self, mpa_id: bytes, approval: Approval, device: bytes | None = None) -> InvalidSignature:
        self._notifier.observer.approval("mpa_signature_failed", mpa_id, approval, device)
        return InvalidSignature()

    async def _count(
        self, mpa_id: bytes, seen: Approval, ballot: Ballot, trace: RequestTracePort | None
    ) -> CountedVote:
        device = seen.members[ballot.member]
        keys = [approval_key(mpa_id), ledger_key(device)]
        if seen.pushed:
            keys.append(outbox_key(member_name(mpa_id, ballot.member)))
        if voting.may_end(seen, ballot):
            keys = list(dict.fromkeys([*keys, *fan_out.rows_at_end(mpa_id, seen)]))
        # Also where this vote seems to leave it open: others may be counted before it.
        create = trace.create("sigil.webhook", _subject(mpa_id)) if trace is not None and self._emit_events else None
        creation = create.packed if create is not None else None

        def rule(now: float, found: tuple[Any, ...]) -> Decision[CountedVote]:
            rows = dict(zip(keys, found, strict=True))
            return voting.vote(now, mpa_id, ballot, rows, emit_event=self._emit_events, event_creation=creation)

        try:
            counted = await self._store.transact(keys, rule)
        except (AlreadyAnswered, MpaClosed):
            self._notifier.observer.approval("mpa_replay_blocked", mpa_id, seen, device)
            raise
        except MpaExpired:
            await self._expiry.settled(approval_key(mpa_id))
            raise
        if trace is not None:
            trace.set("sigil.state", counted.approval.state.wire_name)
            if create is not None and not counted.approval.open:
                create.end()
        self._notifier.observer.approval("mpa_vote", mpa_id, counted.approval, device)
        if not counted.approval.open:
            self._notifier.approval_ended(mpa_id, counted.approval)
        return counted

    async def status(self, caller: Caller, request_id: str, wait: int = 0) -> msgspec.Raw:
        """A MpaStatus as JSON, as soon as the state is final, at the latest after `wait` seconds."""
        mpa_id, approval = await self._owned(caller, request_id)
        if wait and approval.open:
            approval = await self._when_final(caller, request_id, mpa_id, wait)
        return await self._statuses.encoded(mpa_id, approval)

    async def _when_final(self, caller: Caller, request_id: str, mpa_id: bytes, wait: int) -> Approval:
        async def read() -> tuple[Approval, float | None]:
            _, approval = await self._owned(caller, request_id)
            return approval, approval.deadline - self._clock() if approval.open else None

        return await self._long_polls.until_final(caller.owner, mpa_id, wait, read)

    async def cancel(self, caller: Caller, request_id: str, trace: RequestTracePort | None = None) -> msgspec.Raw:
        """Cancel a pending request; a repeated cancellation is no error. Returns its status as JSON."""
        mpa_id, seen = await self._owned(caller, request_id)
        if trace is not None:
            trace.about(_subject(mpa_id), seen.creation)
        keys = [approval_key(mpa_id), *fan_out.rows_at_end(mpa_id, seen)]

        def rule(now: float, found: tuple[Any, ...]) -> Decision[tuple[Approval, bool]]:
            return with_ended_flag(voting.cancel(now, mpa_id, dict(zip(keys, found, strict=True))))

        try:
            cancelled, ended_here = await self._store.transact(keys, rule)
        except MpaClosed:
            # It may have timed out since the read above.
            await self._expiry.settled(approval_key(mpa_id))
            raise
        if trace is not None:
            trace.set("sigil.state", cancelled.state.wire_name)
        if ended_here:
            self._notifier.approval_ended(mpa_id, cancelled)
        return await self._statuses.encoded(mpa_id, cancelled)

    async def _owned(self, caller: Caller, request_id: str) -> tuple[bytes, Approval]:
        """By the owner's request_id; MpaNotFound also for a request of another owner."""
        record: RequestIdRecord | None = await self._store.get(request_id_key(caller.owner, request_id))
        mpa_id, approval = await self._found(None if record is None else record.mpa_id)
        if approval.state is State.TIMEOUT:
            return self._readable(mpa_id, await self._expiry.settled(approval_key(mpa_id)))
        return mpa_id, approval

    async def _found(self, mpa_id: bytes | None) -> tuple[bytes, Approval]:
        return self._readable(mpa_id, None if mpa_id is None else await self._store.get(approval_key(mpa_id)))

    def _readable(self, mpa_id: bytes | None, row: Approval | None) -> tuple[bytes, Approval]:
        approval = current_state(self._clock(), row)
        if mpa_id is None or approval is None:
            raise MpaNotFound
        return mpa_id, approval


def _subject(mpa_id: bytes) -> Subject:
    return Subject("sigil.mpa_id", format_uuid(mpa_id))
