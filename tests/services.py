"""The service of challenges over the memory store, with a clock that tests move."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sigil.app import KINDS
from sigil.challenges import Challenges, Idempotency, Policy
from sigil.core.challenge import Challenge
from sigil.device import Device
from sigil.protocol import messages
from sigil.protocol.action import Action
from sigil.protocol.api_key import Caller
from sigil.protocol.canonical import canonical
from sigil.protocol.encoding import decode_base64, encode_base64, format_time
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.store.memory import MemoryStore
from sigil.waiting import Waiters

SECRETS = DerivedSecrets(*(bytes([n]) * 32 for n in (1, 2, 3, 4)))
IDENTITY = ServerIdentity.from_secrets(SECRETS)
START = 1_777_026_735.5
ACTION = Action("login", "Sign in to Example")
ACTION_JCS = canonical({"type": ACTION.type, "description": ACTION.description})
SOMEBODY, ANOTHER = Caller(b"a" * 16), Caller(b"b" * 16)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """The service, its parts, and the events that it told."""

    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.events: list[str] = []
        self.store = MemoryStore(kinds=KINDS, clock=self.clock, size=1 << 20)
        self.waiters = Waiters()
        self.challenges = Challenges(
            identity=IDENTITY,
            store=self.store,
            waiters=self.waiters,
            policy=self.policy,
            journal=self._journal,
            clock=self.clock,
            randomness=os.urandom,
        )

    def _journal(self, event: str, _challenge_id: bytes, _challenge: Challenge) -> None:
        self.events.append(event)

    async def ask(
        self,
        device: Device,
        caller: Caller = SOMEBODY,
        *,
        seconds: int = 300,
        key: str = "",
        body: bytes = b"body",
        matching: bool = False,
    ) -> messages.ChallengeCreated:
        wanted = messages.CreateChallenge(device.wire_key, ACTION, None, seconds, matching)
        created, _ = await self.challenges.issue(caller, wanted, Idempotency(key, body) if key else None)
        return created

    async def approve(
        self, device: Device, created: messages.ChallengeCreated, code: str | None = None
    ) -> messages.Responded:
        bound = decode_base64(created.challenge_bytes, "")
        signature = encode_base64(device.sign_approval(bound, ACTION_JCS, code))
        given = messages.Respond(created.challenge_id, signature, fingerprint=device.fingerprint, match_code=code)
        return await self.challenges.answer(given)

    async def reject(
        self, device: Device, created: messages.ChallengeCreated, reason: messages.Reason | None = None
    ) -> messages.Responded:
        signature = encode_base64(device.sign_rejection(decode_base64(created.challenge_bytes, ""), ACTION_JCS))
        given = messages.Respond(
            created.challenge_id, signature, fingerprint=device.fingerprint, decision="rejected", reason=reason
        )
        return await self.challenges.answer(given)

    async def pending(self, device: Device) -> list[str]:
        at = int(self.clock())
        body = device.pending_body(IDENTITY.server_id, at)
        assert body["timestamp"] == format_time(at)
        listed = await self.challenges.pending(messages.Pending(**body))
        return [payload.challenge_id for payload in listed.challenges]

    async def sweep(self) -> None:
        while await self.challenges.sweep():
            pass
