"""Enrolments for these tests: begun, claimed, completed, in any state; their row and their event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sigil.core.enrolment.row import State, enrolment_key
from sigil.core.enrolment.rules import MAX_WRONG_CODES
from sigil.core.webhooks.event import event_key
from sigil.delivery.backlog import Backlog, EventBacklog
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.errors import AttestationInvalid, AttestationRequired, Problem, WrongCode
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import YubikeyAttestation
from sigil.protocol.messages.enrolment import BeginEnrolment, EnrolmentBegun
from sigil.webhooks import messages as webhook_messages
from tests.support.enrolling import Phone
from tests.support.services import CALLER, IDENTITY, START, Services

POLICY = EnrolmentPolicy(server_name="Example", public_url="https://auth.example.com")


class EventfulServices(Services):
    def _make_event_backlog(self) -> EventBacklog:
        return EventBacklog(Backlog())


async def until(reached: Callable[[], bool]) -> None:
    """Lets the other tasks run until then."""
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0)


async def begin(services: Services, account: str = "alice", **members: Any) -> EnrolmentBegun:
    begun, _ = await services.enrolments.begin(CALLER, BeginEnrolment(account, **members))
    return begun


async def claimed(services: Services, begun: EnrolmentBegun, **given: Any) -> Phone:
    phone = Phone.of(begun, **given)
    phone.accept(await services.enrolments.claim(phone.claim()))
    return phone


async def completed(services: Services, begun: EnrolmentBegun, **given: Any) -> tuple[Phone, str]:
    """The phone, and the code that it shows."""
    phone = await claimed(services, begun, **given)
    answer = await services.enrolments.complete(phone.completion())
    return phone, phone.session(answer.sas_nonce).code


async def enrolled(services: Services, begun: EnrolmentBegun, **given: Any) -> Phone:
    phone, code = await completed(services, begun, **given)
    await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
    return phone


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


async def in_state(services: Services, state: State) -> tuple[EnrolmentBegun, Phone, str]:
    """An enrolment in that state, with a phone that has claimed it (after a claim), and its code."""
    begun, code = await begin(services), "000000"
    phone = Phone.of(begun)
    if state not in {State.PENDING, State.CANCELLED, State.EXPIRED}:
        phone = await claimed(services, begun)
    if state in {State.CONFIRMING, State.ENROLLED, State.FAILED}:
        answer = await services.enrolments.complete(phone.completion())
        code = phone.session(answer.sas_nonce).code
    if state is State.ENROLLED:
        await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
    if state is State.FAILED:
        for _ in range(MAX_WRONG_CODES):
            with pytest.raises(WrongCode):
                await services.enrolments.confirm(CALLER, begun.enrolment_id, wrong(code))
    if state in {State.CANCELLED, State.EXPIRED}:
        phone = await claimed(services, begun)
    if state is State.CANCELLED:
        await services.enrolments.cancel(CALLER, begun.enrolment_id)
    if state is State.EXPIRED:
        services.clock.now += 600
    return begun, phone, code


async def state_of(services: Services, begun: EnrolmentBegun) -> str:
    return (await services.enrolments.status(CALLER, begun.enrolment_id)).status


def row_of(services: Services, begun: EnrolmentBegun) -> Any:
    name = parse_uuid(begun.enrolment_id)
    assert name is not None
    return services.store.peek(enrolment_key(name))


def event_of(services: Services, begun: EnrolmentBegun) -> dict[str, Any] | None:
    import msgspec

    name = parse_uuid(begun.enrolment_id)
    assert name is not None
    event = services.store.peek(event_key(name))
    if event is None:
        return None
    body: dict[str, Any] = msgspec.json.decode(webhook_messages.body(name, event))
    return body


class Attesting:
    """An attestation port of the test: YubiKeys, with the level that the test sets; it records what it was given."""

    def __init__(self, level: str = "hardware", *, required: bool = False) -> None:
        self.kinds = ("yubikey-piv",)
        self.required = required
        self.level = level
        self.given: dict[str, Any] = {}
        self.rejected: list[str] = []

    def rejected_enrolment(self, device_key: PublicKey, kind: str) -> Problem:
        self.rejected.append(kind)
        return AttestationInvalid("kind") if kind else AttestationRequired()

    def verify_for_enrolment(self, device_key: PublicKey, attestation: Any, **given: Any) -> str:
        from sigil.protocol import device_credential
        from sigil.protocol.device_credential import Facts, Payload

        self.given = given
        order = ("", "emulator", "hardware", "secure_element")
        if order.index(self.level) < order.index(given["min_level"]):
            raise AttestationInvalid("level")
        now = int(START)
        payload = Payload(
            server_id=IDENTITY.server_id,
            fingerprint=device_key.fingerprint,
            kind="yubikey-piv",
            level=self.level,  # type: ignore[arg-type]
            binding="direct",
            app="",
            attested_at=now,
            issued_at=now,
            expires_at=now + 86_400,
        )
        return device_credential.issue(payload, Facts(), IDENTITY.keys["ES256"].sign, salt=bytes(16))


STATEMENT = YubikeyAttestation(["AAAA", "AAAA"])
