"""The service of challenges: ask, answer, look, wait, cancel, expire (docs/protocol.md, 5.2)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sigil.challenge_messages import ChallengeMessages
from sigil.core import challenge as rules
from sigil.core.challenge import Challenge, Idempotent, Issued, State
from sigil.core.decision import Decision, Key, SessionStore, StoreFull
from sigil.core.ledger import Limits
from sigil.core.once import SPENT, spend
from sigil.core.outbox import Push, outbox_key
from sigil.core.sweep import Expired, sweep
from sigil.protocol import messages, signed_bytes
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding import decode_base64, decode_hex, parse_time
from sigil.protocol.errors import (
    ChallengeAlreadyUsed,
    ChallengeNotFound,
    FingerprintMismatch,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    Overloaded,
)
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.ids import format_uuid, parse_uuid, uuid4_bytes
from sigil.protocol.keys import PublicKey
from sigil.waiting import Waiters

MAX_WAIT_SECONDS = 25
PENDING_SKEW_SECONDS = 60
# Five rows a challenge, and a transaction writes at most 200.
_SWEEP_BATCH = 40
_IDEMPOTENCY_TRIES = 3


class Journal(Protocol):
    """Where a service tells what happened: one call an event, never with a secret in it."""

    def __call__(self, event: str, challenge_id: bytes, challenge: Challenge) -> None: ...


class Outgoing(Protocol):
    """Whoever sends what stands in the outbox; told from here, so that it need not look."""

    @property
    def push(self) -> Push:
        """How the push of a new challenge stands: DISABLED, and nothing is entered; QUEUED; or RELAY_UNREACHABLE."""

    def wrote(self, challenge_id: bytes) -> None:
        """The outbox may have a new entry for this challenge. Returns at once."""


class NoPush:
    push = Push.DISABLED

    def wrote(self, challenge_id: bytes) -> None:
        pass


class Events(Protocol):
    """Whoever tells the integrator what ended."""

    @property
    def wanted(self) -> bool:
        """Whether anyone is to be told."""

    def refuse_when_full(self) -> None:
        """Overloaded when nothing more may begin, since there would be no room to tell of its end."""

    def wrote(self, challenge_id: bytes) -> None:
        """There may be a new event of this challenge. Returns at once."""


class NoEvents:
    wanted = False

    def refuse_when_full(self) -> None:
        pass

    def wrote(self, challenge_id: bytes) -> None:
        pass


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
    """Collaborators: identity, session store, this worker's waiters and outgoing pushes, clock and randomness."""

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        store: SessionStore,
        waiters: Waiters,
        policy: Policy,
        journal: Journal,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        outgoing: Outgoing | None = None,
        events: Events | None = None,
    ) -> None:
        self._identity = identity
        self._events: Events = NoEvents() if events is None else events
        self._outgoing: Outgoing = NoPush() if outgoing is None else outgoing
        self.messages = ChallengeMessages(identity)
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
        device = self._device(wanted.device_public_key, wanted.fingerprint)
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
            self._outgoing.wrote(issued.challenge_id)
            self._journal("challenge_created", issued.challenge_id, issued.challenge)
        return self.messages.created(format_uuid(issued.challenge_id), issued.challenge), issued.replayed

    def _device(self, public_key: str, fingerprint: str | None) -> PublicKey:
        device = PublicKey.parse(decode_base64(public_key, "$.device_public_key"))
        # Server and device sign the same bytes: with the server's own key its question would be its answer.
        if device.wire in self._identity.own_public_keys:
            raise InvalidPublicKey
        if fingerprint is not None and decode_hex(fingerprint, "$.fingerprint", length=32).hex() != device.fingerprint:
            raise FingerprintMismatch
        return device

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
        known: Idempotent | None = None
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

        self._events.refuse_when_full()
        try:
            return await self._store.decide(keys, rule, creates=True)
        except StoreFull as error:
            raise Overloaded(retry_after=5) from error

    async def answer(self, given: messages.Respond) -> messages.Responded:
        """A device's answer: exists, key and signature, not final, not expired; the first valid one wins."""
        approved = given.decision != "rejected"
        is_presented = self._presented(given, approved)
        signature = decode_base64(given.signature, "$.signature")
        key, challenge = await self._readable(given.challenge_id)
        device = PublicKey.parse(challenge.public_key)
        if not is_presented(device):
            self._refuse_signature(key, challenge)
        message = self.messages.answer_bytes(
            given.challenge_id, challenge, device, approved=approved, match_code=given.match_code
        )
        if not device.verify(message, signature):
            self._refuse_signature(key, challenge)
        if approved and (given.match_code or "") != challenge.match_code:
            await self._count_wrong_code(key, challenge)
            self._refuse_signature(key, challenge)
        ended = await self._end(key, challenge, approved, given.reason or "")
        return self.messages.responded(ended)

    def _presented(self, given: messages.Respond, approved: bool) -> Callable[[PublicKey], bool]:
        """Checks the form of what names the device; the result tells whether that is a given device."""
        if given.match_code is not None and not approved:
            raise InvalidRequest("A rejection never carries a code.", path="$.match_code")
        if given.device_public_key is not None:
            presented = self._device(given.device_public_key, given.fingerprint)
            return lambda device: device == presented
        if given.fingerprint is not None:
            fingerprint = decode_hex(given.fingerprint, "$.fingerprint", length=32).hex()
            return lambda device: device.fingerprint == fingerprint
        raise InvalidRequest("Send device_public_key or fingerprint.", path="$.device_public_key")

    def _refuse_signature(self, key: bytes, challenge: Challenge) -> None:
        self._journal("signature_failed", key, challenge)
        raise InvalidSignature

    async def _end(self, key: bytes, challenge: Challenge, approved: bool, reason: str) -> Challenge:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Challenge]:
            return rules.answer(now, key, *rows, approved=approved, reason=reason, webhook=self._events.wanted)

        try:
            ended = await self._store.decide(_rows_of(key, challenge), rule)
        except ChallengeAlreadyUsed:
            self._journal("replay_blocked", key, challenge)
            raise
        self._events.wrote(key)
        self._journal(f"challenge_{ended.state.word}", key, ended)
        return ended

    async def _count_wrong_code(self, key: bytes, challenge: Challenge) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[_Ended]:
            return _telling(rules.wrong_code(now, key, *rows, webhook=self._events.wanted))

        counted, here = await self._store.decide(_rows_of(key, challenge), rule)
        if here:
            self._outgoing.wrote(key)
            self._events.wrote(key)
            self._journal("challenge_rejected", key, counted)

    async def status(self, caller: Caller, challenge_id: str, wait: int = 0) -> messages.ChallengeStatus:
        """How it stands, after at most `wait` seconds (0..25): as soon as it is final."""
        key, challenge = await self._owned(caller, challenge_id)
        if wait and challenge.state is State.PENDING:
            challenge = await self._when_final(caller, challenge_id, key, wait)
        return self.messages.status(challenge_id, challenge)

    async def _when_final(self, caller: Caller, challenge_id: str, key: bytes, wait: int) -> Challenge:
        # The time of day may be set while somebody waits.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        with self._waiters.waiting(key) as waiter:
            while True:
                # Registered first, read again then: no end can fall between the two.
                _, challenge = await self._owned(caller, challenge_id)
                left = min(deadline - loop.time(), challenge.expires_at - self._clock())
                if waiter is None or self._waiters.draining or challenge.state is not State.PENDING or left <= 0:
                    return challenge
                await waiter.sleep(left)

    async def cancel(self, caller: Caller, challenge_id: str) -> messages.ChallengeStatus:
        """Take a pending challenge back; again is no error."""
        key, challenge = await self._owned(caller, challenge_id)

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[_Ended]:
            return _telling(rules.cancel(now, key, *rows))

        cancelled, here = await self._store.decide(_rows_of(key, challenge), rule)
        if here:
            self._outgoing.wrote(key)
            self._journal("challenge_cancelled", key, cancelled)
        return self.messages.status(challenge_id, cancelled)

    async def pending(self, asked: messages.Pending) -> messages.PendingList:
        """What a device has to decide, for when a push was lost. A device that nobody knows causes no write."""
        device = self._device(asked.device_public_key, None)
        at = parse_time(asked.timestamp, "$.timestamp")
        signature = decode_base64(asked.signature, "$.signature")
        message = signed_bytes.pending(self._identity.server_id, asked.timestamp)
        if abs(self._clock() - at) > PENDING_SKEW_SECONDS or not device.verify(message, signature):
            raise InvalidSignature
        ledger = await self._store.get(rules.ledger_key(device.wire))
        if ledger is None:
            return messages.PendingList([], [])
        await self._spend(device, at)
        payloads = [await self._payload(device, key) for key in ledger.pending(self._clock())]
        return messages.PendingList([payload for payload in payloads if payload is not None], [])

    async def _spend(self, device: PublicKey, at: int) -> None:
        key = Key(SPENT, bytes.fromhex(device.fingerprint)[:16] + at.to_bytes(8))

        def rule(_now: float, rows: tuple[Any, ...]) -> Decision[bool]:
            return spend(key, rows[0], at + PENDING_SKEW_SECONDS + 1)

        if not await self._store.decide([key], rule):
            raise InvalidSignature

    async def _payload(self, device: PublicKey, key: bytes) -> messages.ChallengePayload | None:
        challenge = rules.settle(self._clock(), await self._store.get(rules.challenge_key(key)))
        if challenge is None or challenge.state is not State.PENDING or challenge.public_key != device.wire:
            return None
        return self.messages.payload(format_uuid(key), challenge)

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

    async def sweep(self) -> bool:
        """End what expired and forget what is over, one batch; True when there may be more."""
        due = await self._store.due(self._clock(), _SWEEP_BATCH)
        if not due:
            return False
        rows = [(key.name, await self._store.get(key)) for key in due if key.kind is rules.CHALLENGE]
        others = [other for name, row in rows if row is not None for other in _rows_of(name, row)[1:]]
        keys = list(dict.fromkeys([*due, *others]))

        def rule(now: float, found: tuple[Any, ...]) -> Decision[Expired]:
            return sweep(now, dict(zip(keys, found, strict=True)), webhook=self._events.wanted)

        for challenge_id, challenge in await self._store.decide(keys, rule):
            self._outgoing.wrote(challenge_id)
            self._events.wrote(challenge_id)
            self._journal("challenge_expired", challenge_id, challenge)
        return len(due) == _SWEEP_BATCH


_Ended = tuple[Challenge, bool]
"""A challenge, and whether the very decision that brought it ended it: of several at once one did, and tells of it."""


def _telling(decided: Decision[Challenge]) -> Decision[_Ended]:
    return Decision((decided.result, bool(decided.ended)), decided.writes, decided.ended)


def _rows_of(challenge_id: bytes, challenge: Challenge) -> list[Key]:
    """What an end of the challenge is decided over. Whether it has a push never changes."""
    keys = [rules.challenge_key(challenge_id), rules.ledger_key(challenge.public_key)]
    if challenge.push:
        keys.append(outbox_key(challenge_id))
    return keys
