"""The service of challenges: ask, answer, look, wait, cancel (docs/protocol.md, 5.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sigil.challenges.messages import ChallengeMessages
from sigil.core import challenge as rules
from sigil.core.challenge import Challenge, IdempotencyRecord, Issued, State
from sigil.core.device_ledger import Limits
from sigil.core.push_outbox import outbox_key
from sigil.core.session_store import Decision, Key, SessionStore, StoreFull, with_ended_flag
from sigil.delivery.backlog import PushBacklog
from sigil.delivery.undelivered import Events
from sigil.protocol import messages
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding import decode_base64
from sigil.protocol.errors import ChallengeAlreadyUsed, ChallengeNotFound, InvalidRequest, InvalidSignature, Overloaded
from sigil.protocol.ids import format_uuid, parse_uuid, uuid4_bytes
from sigil.protocol.keys import PublicKey
from sigil.sessions.capacity import Capacity
from sigil.sessions.device_refs import DeviceResolver
from sigil.sessions.long_polls import LongPolls

_IDEMPOTENCY_TRIES = 3


class Journal(Protocol):
    """Where a service tells what happened: one call an event, never with a secret in it."""

    def __call__(self, event: str, challenge_id: bytes, challenge: Challenge) -> None: ...


@dataclass(frozen=True)
class Policy:
    """The settings that decide about challenges. `respond_to` is empty when devices use their pinned address."""

    limits: Limits = field(default_factory=Limits)
    number_matching: bool = False
    respond_to: str = ""


class Idempotency(msgspec.Struct, frozen=True):
    """An Idempotency-Key with the SHA-256 of the raw body that came with it."""

    key: str
    body_sha256: bytes

    def name(self, caller: Caller) -> bytes:
        """Scoped to the owner and the endpoint, 16 bytes."""
        return hashlib.sha256(caller.owner + b"POST /challenge\0" + self.key.encode()).digest()[:16]


class Challenges:
    """Collaborators: what is signed and who may be named, session store, this worker's waiters and outgoing pushes,
    clock and randomness, who is told of ends and whether there is room for one more.
    """

    def __init__(
        self,
        *,
        messages: ChallengeMessages,
        devices: DeviceResolver,
        store: SessionStore,
        waiters: LongPolls,
        policy: Policy,
        journal: Journal,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        outgoing: PushBacklog,
        events: Events,
        room: Capacity,
    ) -> None:
        self._messages = messages
        self._devices = devices
        self._outgoing = outgoing
        self._events = events
        self._room = room
        self._store = store
        self._waiters = waiters
        self._policy = policy
        self._journal = journal
        self._clock = clock
        self._randomness = randomness

    async def issue(
        self, caller: Caller, wanted: messages.CreateChallenge, idempotency: Idempotency | None = None
    ) -> tuple[messages.ChallengeCreated, bool]:
        """Ask a device. The flag says that an Idempotency-Key brought back an earlier challenge."""
        device = self._devices.resolve(wanted.device_public_key, wanted.fingerprint)
        now = self._clock()
        matching = self._policy.number_matching or bool(wanted.number_matching)
        draft = Challenge(
            public_key=device.wire,
            owner=caller.owner,
            nonce=self._randomness(32),
            action=action_jcs(wanted.action),
            created_ms=int(now * 1000),
            lifetime=wanted.expires_in_seconds or messages.DEFAULT_EXPIRY_SECONDS,
            respond_to=self._policy.respond_to,
            match_code=self._two_digits() if matching else "",
            idempotency=idempotency.name(caller) if idempotency else None,
            push=self._outgoing.push,
        )
        issued = await self._enter(draft, idempotency.body_sha256 if idempotency else b"")
        if not issued.replayed:
            self._outgoing.enqueued(issued.challenge_id)
            self._journal("challenge_created", issued.challenge_id, issued.challenge)
        return self._messages.created(format_uuid(issued.challenge_id), issued.challenge), issued.replayed

    def _two_digits(self) -> str:
        # A byte below 200 gives each of 00..99 twice: no code is likelier than another.
        while (byte := self._randomness(1)[0]) >= 200:
            pass
        return f"{byte % 100:02d}"

    async def _enter(self, draft: Challenge, body_sha256: bytes) -> Issued:
        challenge_id = uuid4_bytes(self._randomness(16))
        for _ in range(_IDEMPOTENCY_TRIES):
            issued = await self._try_to_enter(challenge_id, draft, body_sha256)
            if issued is not None:
                return issued
        raise Overloaded("The same Idempotency-Key is in use by many requests at once.")

    async def _try_to_enter(self, challenge_id: bytes, draft: Challenge, body_sha256: bytes) -> Issued | None:
        """None when the Idempotency-Key came into use between our look at it and our transaction."""
        keys = [rules.challenge_key(challenge_id), rules.ledger_key(draft.public_key)]
        known: IdempotencyRecord | None = None
        if draft.idempotency:
            keys.append(rules.idempotency_key(draft.idempotency))
            known = await self._store.get(keys[-1])
        if known is not None:
            # What a first answer says never changes, so it needs no transaction, and no room for one.
            earlier = await self._store.get(rules.challenge_key(known.challenge_id))
            again = rules.replay(self._clock(), known, body_sha256, earlier)
            if again is not None:
                return again

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Issued | None]:
            _, ledger, *used = rows
            if used and used[0] != known:
                return Decision(None)
            return rules.issue(
                now, challenge_id, draft, ledger, limits=self._policy.limits, body_sha256=body_sha256, stale=known
            )

        self._room.check_challenge()
        try:
            return await self._store.transact(keys, rule, creates=True)
        except StoreFull as error:
            raise Overloaded(retry_after=5) from error

    async def answer(self, given: messages.Respond) -> messages.Responded:
        """A device's answer: exists, key and signature, not final, not expired; the first valid one wins."""
        approved = given.decision != "rejected"
        if given.match_code is not None and not approved:
            raise InvalidRequest("A rejection never carries a code.", path="$.match_code")
        is_presented = self._devices.matcher(given.device_public_key, given.fingerprint)
        signature = decode_base64(given.signature, "$.signature")
        key, challenge = await self._readable(given.challenge_id)
        device = PublicKey.parse(challenge.public_key)
        if not is_presented(device.wire):
            self._refuse_signature(key, challenge)
        message = self._messages.answer_bytes(
            given.challenge_id, challenge, device, approved=approved, match_code=given.match_code
        )
        if not device.verify(message, signature):
            self._refuse_signature(key, challenge)
        if approved and (given.match_code or "") != challenge.match_code:
            await self._count_wrong_code(key, challenge)
            self._refuse_signature(key, challenge)
        ended = await self._end(key, challenge, approved, given.reason or "")
        return self._messages.responded(ended)

    def _refuse_signature(self, key: bytes, challenge: Challenge) -> None:
        self._journal("signature_failed", key, challenge)
        raise InvalidSignature

    async def _end(self, key: bytes, challenge: Challenge, approved: bool, reason: str) -> Challenge:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Challenge]:
            return rules.answer(now, key, *rows, approved=approved, reason=reason, emit_event=self._events.enabled)

        try:
            ended = await self._store.transact(rows_of(key, challenge), rule)
        except ChallengeAlreadyUsed:
            self._journal("replay_blocked", key, challenge)
            raise
        self._events.enqueued(key)
        self._journal(f"challenge_{ended.state.word}", key, ended)
        return ended

    async def _count_wrong_code(self, key: bytes, challenge: Challenge) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[tuple[Challenge, bool]]:
            return with_ended_flag(rules.wrong_code(now, key, *rows, emit_event=self._events.enabled))

        counted, here = await self._store.transact(rows_of(key, challenge), rule)
        if here:
            self._outgoing.enqueued(key)
            self._events.enqueued(key)
            self._journal("challenge_rejected", key, counted)

    async def status(self, caller: Caller, challenge_id: str, wait: int = 0) -> messages.ChallengeStatus:
        """How it stands, after at most `wait` seconds (0..25): as soon as it is final."""
        key, challenge = await self._owned(caller, challenge_id)
        if wait and challenge.state is State.PENDING:
            challenge = await self._when_final(caller, challenge_id, key, wait)
        return self._messages.status(challenge_id, challenge)

    async def _when_final(self, caller: Caller, challenge_id: str, key: bytes, wait: int) -> Challenge:
        async def look() -> tuple[Challenge, float | None]:
            _, challenge = await self._owned(caller, challenge_id)
            pending = challenge.state is State.PENDING
            return challenge, challenge.expires_at - self._clock() if pending else None

        return await self._waiters.until_final(key, wait, look)

    async def cancel(self, caller: Caller, challenge_id: str) -> messages.ChallengeStatus:
        """Take a pending challenge back; again is no error."""
        key, challenge = await self._owned(caller, challenge_id)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[tuple[Challenge, bool]]:
            return with_ended_flag(rules.cancel(now, key, *rows))

        cancelled, here = await self._store.transact(rows_of(key, challenge), rule)
        if here:
            self._outgoing.enqueued(key)
            self._journal("challenge_cancelled", key, cancelled)
        return self._messages.status(challenge_id, cancelled)

    async def _readable(self, challenge_id: str) -> tuple[bytes, Challenge]:
        key = parse_uuid(challenge_id)
        row = None if key is None else await self._store.get(rules.challenge_key(key))
        challenge = rules.settle(self._clock(), row)
        if key is None or challenge is None:
            raise ChallengeNotFound
        return key, challenge

    async def _owned(self, caller: Caller, challenge_id: str) -> tuple[bytes, Challenge]:
        """For another owner it does not exist."""
        key, challenge = await self._readable(challenge_id)
        if challenge.owner != caller.owner:
            raise ChallengeNotFound
        return key, challenge


def rows_of(challenge_id: bytes, challenge: Challenge) -> list[Key]:
    """What an end of the challenge is decided over. Whether it has a push never changes."""
    keys = [rules.challenge_key(challenge_id), rules.ledger_key(challenge.public_key)]
    if challenge.push:
        keys.append(outbox_key(challenge_id))
    return keys
