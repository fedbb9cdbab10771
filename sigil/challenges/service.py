"""The service of challenges: create, answer, query, wait, cancel (docs/protocol.md, 5.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigil.attestation.service import Attestation
from sigil.challenges.messages import ChallengeMessages
from sigil.core import challenge as rules
from sigil.core.challenge import Challenge, IdempotencyRecord, Issued, State
from sigil.core.device_ledger import Limits
from sigil.core.evidence import Evidence, WebProof, evidence_of, web_proof
from sigil.core.pushes.outbox import outbox_key
from sigil.core.session_store import Decision, Key, StoreFull, tally_key, with_ended_flag
from sigil.core.tracing import RequestTracePort, SpanPort, Subject
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid, parse_uuid, uuid4_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import (
    ChallengeAlreadyUsed,
    ChallengeExpired,
    ChallengeNotFound,
    InvalidRequest,
    InvalidSignature,
    Overloaded,
)
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import challenges as messages
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.idempotency import TRIES, Idempotency
from sigil.sessions.runtime import SessionRuntime


@dataclass(frozen=True)
class ChallengePolicy:
    """The settings of challenges. `respond_to` is empty when devices use their pinned address."""

    limits: Limits = field(default_factory=Limits)
    number_matching: bool = False
    respond_to: str = ""


class Challenges:
    """`messages` signs for this server's identity."""

    def __init__(
        self, runtime: SessionRuntime, *, messages: ChallengeMessages, policy: ChallengePolicy, attestation: Attestation
    ) -> None:
        self._messages = messages
        self._attestation = attestation
        self._policy = policy
        self._notifier = runtime.notifier
        self._emit_events = runtime.notifier.event_backlog.enabled
        self._devices = runtime.devices
        self._capacity = runtime.capacity
        self._store = runtime.store
        self._long_polls = runtime.long_polls
        self._clock = runtime.store.now
        self._time_of_creation = runtime.time_of_creation
        self._expiry = ExpirySweeper(runtime.store, runtime.notifier)
        self._randomness = runtime.randomness

    async def issue(
        self,
        caller: Caller,
        body: messages.CreateChallenge,
        idempotency: Idempotency | None = None,
        trace: RequestTracePort | None = None,
    ) -> tuple[messages.ChallengeCreated, bool]:
        """Create a challenge. The flag: the Idempotency-Key is known; this is its challenge."""
        device = self._devices.resolve(body.device_public_key, body.fingerprint)
        self._devices.require_own_origin(device)
        self._devices.require_not_revoked(device)
        created_ms, ahead = self._time_of_creation()
        matching = self._policy.number_matching or bool(body.number_matching)
        draft = Challenge(
            public_key=device.wire,
            owner=caller.owner,
            nonce=self._randomness(32),
            action=action_jcs(body.action),
            created_ms=created_ms,
            lifetime=body.expires_in_seconds or messages.DEFAULT_EXPIRY_SECONDS,
            respond_to=self._policy.respond_to,
            match_code=self._two_digits() if matching else "",
            idempotency=idempotency.name(caller, "POST /challenge") if idempotency else None,
            push=self._notifier.push_backlog.initial_push,
            ahead=ahead,
        )
        challenge_id = uuid4_bytes(self._randomness(16))
        create = trace.create("sigil.push", _subject(challenge_id)) if trace is not None and draft.push else None
        if trace is not None:
            draft = msgspec.structs.replace(draft, creation=create.packed if create is not None else trace.packed)
        issued = await self._create(challenge_id, draft, idempotency.body_sha256 if idempotency else b"")
        if trace is not None:
            trace.about(_subject(issued.challenge_id), issued.challenge.creation if issued.replayed else None)
            if create is not None and not issued.replayed:
                create.end()
        if not issued.replayed:
            self._notifier.challenge_created(issued.challenge_id, issued.challenge)
        return self._messages.created(format_uuid(issued.challenge_id), issued.challenge), issued.replayed

    def _two_digits(self) -> str:
        # A byte below 200 gives each of 00..99 twice: all codes are equally likely.
        while (byte := self._randomness(1)[0]) >= 200:
            pass
        return f"{byte % 100:02d}"

    async def _create(self, challenge_id: bytes, draft: Challenge, body_sha256: bytes) -> Issued:
        for _ in range(TRIES):
            issued = await self._try_create(challenge_id, draft, body_sha256)
            if issued is not None:
                return issued
        raise Overloaded("The same Idempotency-Key is in use by many requests at once.")

    async def _try_create(self, challenge_id: bytes, draft: Challenge, body_sha256: bytes) -> Issued | None:
        """None when the Idempotency-Key came into use between the read and the transaction."""
        keys = [rules.challenge_key(challenge_id), rules.ledger_key(draft.public_key), tally_key(draft.owner)]
        known: IdempotencyRecord | None = None
        if draft.idempotency:
            keys.append(rules.idempotency_key(draft.idempotency))
            known = await self._store.get(keys[-1])
        if known is not None:
            # The first response never changes, so a replay needs neither a transaction nor capacity.
            earlier = await self._expiry.settled(rules.challenge_key(known.challenge_id))
            replayed = rules.replay(self._clock(), known, body_sha256, earlier)
            if replayed is not None:
                return replayed

        share = self._capacity.check_challenge()

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Issued | None]:
            _, ledger, tally, *used = rows
            if used and used[0] != known:
                return Decision(None)
            return rules.issue(
                now,
                challenge_id,
                draft,
                ledger,
                limits=self._policy.limits,
                body_sha256=body_sha256,
                stale=known,
                tally=tally,
                share=share,
            )

        try:
            return await self._store.transact(keys, rule, creates=True)
        except StoreFull as error:
            raise Overloaded(retry_after=5) from error

    async def answer(self, response: messages.Respond, trace: RequestTracePort | None = None) -> messages.Responded:
        """A device's answer. Checks in order: known, key and signature, not final, not expired, credential.

        The first one wins.
        """
        approved = response.decision != "rejected"
        if response.match_code is not None and not approved:
            raise InvalidRequest("A rejection carries no code: leave match_code out.", path="$.match_code")
        is_presented = self._devices.matcher(response.device_public_key, response.fingerprint)
        signature = decode_base64(response.signature, "$.signature")
        key, challenge = await self._readable(response.challenge_id)
        if trace is not None:
            trace.about(_subject(key), challenge.creation)
        device = PublicKey.parse(challenge.public_key)
        if not is_presented(device.wire):
            self._reject_signature(key, challenge)
        message = self._messages.answer_bytes(
            format_uuid(key), challenge, device, approved=approved, match_code=response.match_code
        )
        if not device.verify(message, signature):
            self._reject_signature(key, challenge)
        if approved and (response.match_code or "") != challenge.match_code:
            await self._count_wrong_code(key, challenge, trace)
            self._reject_signature(key, challenge)
        # An ended one is 409 or 410 first. A rejection needs nothing, also of a revoked device.
        evidence = None
        if approved and challenge.open:
            self._devices.require_not_revoked(device)
            credential = self._attestation.check(device, response.device_credential)
            evidence = evidence_of(credential.payload) if credential else None
        ended = await self._end(
            key,
            challenge,
            approved=approved,
            reason=response.reason or "",
            evidence=evidence,
            web=web_proof(device.wire, signature),
            trace=trace,
        )
        return self._messages.responded(ended)

    def _reject_signature(self, key: bytes, challenge: Challenge) -> None:
        self._notifier.observer.challenge("signature_failed", key, challenge)
        raise InvalidSignature

    async def _end(
        self,
        key: bytes,
        challenge: Challenge,
        *,
        approved: bool,
        reason: str,
        evidence: Evidence | None,
        web: WebProof,
        trace: RequestTracePort | None,
    ) -> Challenge:
        create = self._creating_event(key, trace)
        creation = create.packed if create is not None else None

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Challenge]:
            return rules.answer(
                now,
                key,
                *rows,
                approved=approved,
                reason=reason,
                evidence=evidence,
                web=web,
                emit_event=self._emit_events,
                event_creation=creation,
            )

        try:
            ended = await self._store.transact(rows_of(key, challenge), rule)
        except ChallengeAlreadyUsed:
            self._notifier.observer.challenge("replay_blocked", key, challenge)
            raise
        except ChallengeExpired:
            await self._expiry.settled(rules.challenge_key(key))
            raise
        if trace is not None:
            _ended(trace, create, ended)
        self._notifier.challenge_answered(key, ended)
        return ended

    def _creating_event(self, key: bytes, trace: RequestTracePort | None) -> SpanPort | None:
        """For the event that a transaction is about to write."""
        return trace.create("sigil.webhook", _subject(key)) if trace is not None and self._emit_events else None

    async def _count_wrong_code(self, key: bytes, challenge: Challenge, trace: RequestTracePort | None) -> None:
        create = self._creating_event(key, trace)
        creation = create.packed if create is not None else None

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[tuple[Challenge, bool]]:
            return with_ended_flag(
                rules.wrong_code(now, key, *rows, emit_event=self._emit_events, event_creation=creation)
            )

        counted, ended_here = await self._store.transact(rows_of(key, challenge), rule)
        if ended_here and trace is not None:
            _ended(trace, create, counted)
        if ended_here:
            self._notifier.challenge_ended(key, counted)

    async def status(self, caller: Caller, challenge_id: str, wait: int = 0) -> messages.ChallengeStatus:
        """The state, as soon as it is final, at the latest after `wait` seconds (0..25)."""
        key, challenge = await self._owned(caller, challenge_id)
        if wait and challenge.state is State.PENDING:
            challenge = await self._when_final(caller, challenge_id, key, wait)
        return self._messages.status(format_uuid(key), challenge)

    async def _when_final(self, caller: Caller, challenge_id: str, key: bytes, wait: int) -> Challenge:
        async def read() -> tuple[Challenge, float | None]:
            _, challenge = await self._owned(caller, challenge_id)
            pending = challenge.state is State.PENDING
            return challenge, challenge.deadline - self._clock() if pending else None

        return await self._long_polls.until_final(caller.owner, key, wait, read)

    async def cancel(
        self, caller: Caller, challenge_id: str, trace: RequestTracePort | None = None
    ) -> messages.ChallengeStatus:
        """Cancel a pending challenge; a repeated cancellation is no error."""
        key, challenge = await self._owned(caller, challenge_id)
        if trace is not None:
            trace.about(_subject(key), challenge.creation)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[tuple[Challenge, bool]]:
            return with_ended_flag(rules.cancel(now, key, *rows))

        try:
            cancelled, ended_here = await self._store.transact(rows_of(key, challenge), rule)
        except ChallengeAlreadyUsed:
            # It may have expired since the read above.
            await self._expiry.settled(rules.challenge_key(key))
            raise
        if ended_here and trace is not None:
            _ended(trace, None, cancelled)
        if ended_here:
            self._notifier.challenge_ended(key, cancelled)
        return self._messages.status(format_uuid(key), cancelled)

    async def _readable(self, challenge_id: str) -> tuple[bytes, Challenge]:
        key = parse_uuid(challenge_id.lower())
        row = None if key is None else await self._store.get(rules.challenge_key(key))
        challenge = rules.current_state(self._clock(), row)
        if key is None or challenge is None:
            raise ChallengeNotFound
        return key, challenge

    async def _owned(self, caller: Caller, challenge_id: str) -> tuple[bytes, Challenge]:
        """ChallengeNotFound also for a challenge of another owner."""
        key, challenge = await self._readable(challenge_id)
        if challenge.owner != caller.owner:
            raise ChallengeNotFound
        if challenge.state is State.EXPIRED:
            settled = rules.current_state(self._clock(), await self._expiry.settled(rules.challenge_key(key)))
            if settled is None:
                raise ChallengeNotFound
            challenge = settled
        return key, challenge


def _subject(challenge_id: bytes) -> Subject:
    return Subject("sigil.challenge_id", format_uuid(challenge_id))


def _ended(trace: RequestTracePort, create: SpanPort | None, challenge: Challenge) -> None:
    """The end is committed, and its event with it."""
    trace.set("sigil.state", challenge.state.wire_name)
    if create is not None:
        create.end()


def rows_of(challenge_id: bytes, challenge: Challenge) -> list[Key]:
    """The rows that a transaction reads to end the challenge. Whether it has a push never changes."""
    keys = [rules.challenge_key(challenge_id), rules.ledger_key(challenge.public_key)]
    if challenge.push:
        keys.append(outbox_key(challenge_id))
    return keys
