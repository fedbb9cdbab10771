"""The lifecycle of an enrolment, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from typing import Any

import pytest

from sigil.attestation.verify import kind_of
from sigil.core.enrolment.row import (
    ENROLMENT,
    ENROLMENT_TOKEN,
    OPEN,
    TRANSITIONS,
    State,
    Transition,
    enrolment_key,
    token_key,
)
from sigil.core.enrolment.rules import MAX_WRONG_CODES
from sigil.core.session_store import Decision, tally_key
from sigil.core.webhooks.event import EVENT, event_key
from sigil.delivery.backlog import Backlog, EventBacklog
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.enrolment.link import is_token, parse_uri
from sigil.protocol.errors import (
    AttestationInvalid,
    AttestationRequired,
    DeviceRevoked,
    EnrolmentClaimed,
    EnrolmentClosed,
    EnrolmentExpired,
    EnrolmentNotFound,
    IdempotencyConflict,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    Overloaded,
    Problem,
    TooManyEnrolments,
    WrongCode,
)
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import AndroidAttestation, AppleAssertion, YubikeyAttestation
from sigil.protocol.messages.enrolment import BeginEnrolment, ClaimEnrolment, CompleteEnrolment, EnrolmentBegun
from sigil.sessions.idempotency import Idempotency
from sigil.webhooks import messages as webhook_messages
from tests.support.enrolling import Phone, new_key
from tests.support.services import CALLER, IDENTITY, OTHER_CALLER, START, Services, all_reads_before_any_transaction

POLICY = EnrolmentPolicy(server_name="Example", public_url="https://auth.example.com")


class EventfulServices(Services):
    def _make_event_backlog(self) -> EventBacklog:
        return EventBacklog(Backlog())


@pytest.fixture
def services() -> Services:
    return EventfulServices(enrolment_policy=POLICY)


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


# States and transitions.


def test_no_transition_leaves_a_final_state_and_every_open_one_can_expire_and_be_cancelled() -> None:
    assert {state for state, _ in TRANSITIONS} == OPEN
    for state in OPEN:
        assert TRANSITIONS[state, "expire"] is State.EXPIRED
        assert TRANSITIONS[state, "cancel"] is State.CANCELLED
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


ATTEMPTS: dict[Transition, Any] = {
    "claim": lambda services, begun, phone, code: services.enrolments.claim(phone.claim()),
    "complete": lambda services, begun, phone, code: services.enrolments.complete(phone.completion()),
    "confirm": lambda services, begun, phone, code: services.enrolments.confirm(CALLER, begun.enrolment_id, code),
    "cancel": lambda services, begun, phone, code: services.enrolments.cancel(CALLER, begun.enrolment_id),
}
OK, CLAIMED, CLOSED, EXPIRED = None, EnrolmentClaimed, EnrolmentClosed, EnrolmentExpired
# By the party that has done the steps before: a repetition of its own steps is no error.
EXPECTED: dict[State, dict[Transition, type[Problem] | None]] = {
    State.PENDING: {"claim": OK, "confirm": CLOSED, "cancel": OK},
    State.CLAIMED: {"claim": OK, "complete": OK, "confirm": CLOSED, "cancel": OK},
    State.CONFIRMING: {"claim": OK, "complete": OK, "confirm": OK, "cancel": OK},
    State.ENROLLED: {"claim": CLOSED, "complete": OK, "confirm": OK, "cancel": CLOSED},
    State.FAILED: {"claim": CLOSED, "complete": CLOSED, "confirm": CLOSED, "cancel": CLOSED},
    State.EXPIRED: {"claim": EXPIRED, "complete": EXPIRED, "confirm": EXPIRED, "cancel": CLOSED},
    State.CANCELLED: {"claim": CLOSED, "complete": CLOSED, "confirm": CLOSED, "cancel": OK},
}
CASES = [(state, attempt) for state, attempts in EXPECTED.items() for attempt in attempts]


@pytest.mark.parametrize(("state", "attempt"), CASES, ids=[f"{attempt} {state.wire_name}" for state, attempt in CASES])
async def test_each_step_in_each_state(services: Services, state: State, attempt: Transition) -> None:
    begun, phone, code = await in_state(services, state)
    assert await state_of(services, begun) == state.wire_name
    before = row_of(services, begun)
    expected = EXPECTED[state][attempt]
    if expected is None:
        await ATTEMPTS[attempt](services, begun, phone, code)
        after = TRANSITIONS.get((state, attempt), state)
        assert await state_of(services, begun) == after.wire_name
        return
    with pytest.raises(expected) as refused:
        await ATTEMPTS[attempt](services, begun, phone, code)
    if expected is EnrolmentClosed:
        assert refused.value.details == {"status": state.wire_name}
    assert "sas" not in f"{refused.value.message}{refused.value.details}"
    assert row_of(services, begun) == before, "a refusal changes nothing"


async def test_the_whole_path(services: Services) -> None:
    begun = await begin(services)
    assert is_token(begun.token)
    link = parse_uri(begun.uri)
    assert (link.base_url, link.server_id, link.token) == (POLICY.public_url, IDENTITY.server_id, begun.token)
    phone = await claimed(services, begun)
    offer = phone.offer
    assert offer.token_sha256 == signed_bytes.enrolment_token_sha256(begun.token).hex()
    assert (offer.account, offer.confirm, offer.replaces) == ("alice", "code", "")
    assert (offer.server_id, offer.server_name) == (IDENTITY.server_id, "Example")
    assert (offer.enrolment_id, offer.expires_at) == (begun.enrolment_id, begun.expires_at)
    assert (offer.attestation.kinds, offer.attestation.min_level) == ([], "")
    answer = await services.enrolments.complete(phone.completion())
    shown = phone.session(answer.sas_nonce)
    confirming = await services.enrolments.status(CALLER, begun.enrolment_id)
    assert (confirming.status, confirming.fingerprint) == ("confirming", phone.key.public.fingerprint)
    assert confirming.session_pictogram == shown.pictogram
    assert confirming.device_public_key is None, "the page must not use a key whose code was not compared"
    assert shown.code not in repr(confirming)
    done = await services.enrolments.confirm(CALLER, begun.enrolment_id, shown.code)
    assert (done.status, done.device_public_key) == ("enrolled", encode_base64(phone.key.public.wire))
    assert done.enrolled_at == "2026-04-24T10:32:15Z"
    assert (await services.enrolments.wait(phone.waiting())).status == "enrolled"
    assert services.events == [
        "enrolment_begun", "enrolment_claimed", "enrolment_confirming", "enrolment_enrolled",
    ]  # fmt: skip


async def test_the_offer_is_signed_by_the_es256_key_of_the_server(services: Services) -> None:
    phone = Phone.of(await begin(services))
    offered = await services.enrolments.claim(phone.claim())
    key = PublicKey.parse(IDENTITY.keys["ES256"].public.wire)
    from sigil.protocol.encoding.text import decode_base64

    assert key.verify(signed_bytes.enrolment_offer(bytes(offered.offer)), decode_base64(offered.server_signature, ""))


async def test_lost_answers_are_repeated(services: Services) -> None:
    begun = await begin(services)
    phone = Phone.of(begun)
    first = await services.enrolments.claim(phone.claim())
    assert await services.enrolments.claim(phone.claim()) == first
    phone.accept(first)
    answer = await services.enrolments.complete(phone.completion())
    assert await services.enrolments.claim(phone.claim()) == first
    # ECDSA of a device is randomised: the same D with another signature is the same completion.
    assert await services.enrolments.complete(phone.completion()) == answer
    code = phone.session(answer.sas_nonce).code
    done = await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
    assert await services.enrolments.confirm(CALLER, begun.enrolment_id, code) == done
    again = await services.enrolments.complete(phone.completion())
    assert (again.sas_nonce, again.status) == (answer.sas_nonce, "enrolled")
    assert services.events.count("enrolment_enrolled") == 1
    with pytest.raises(EnrolmentClosed):
        await services.enrolments.confirm(CALLER, begun.enrolment_id, wrong(code))


async def test_a_setting_that_changes_does_not_change_an_offer_that_was_claimed(services: Services) -> None:
    begun = await begin(services)
    phone = await claimed(services, begun)
    services.enrolments._policy = EnrolmentPolicy("Renamed", "https://other.example.com")
    again = await services.enrolments.claim(phone.claim())
    assert bytes(again.offer) == phone.offer_jcs
    await services.enrolments.complete(phone.completion())


# Attackers.


async def test_the_first_claim_wins_and_the_victim_learns_it(services: Services) -> None:
    begun = await begin(services)
    thief = await claimed(services, begun)
    victim = Phone.of(begun)
    with pytest.raises(EnrolmentClaimed):
        await services.enrolments.claim(victim.claim())
    assert services.events[-1] == "enrolment_claim_refused"
    # The code is on the thief's screen: the victim has none to type, and 10^-6 per attempt remain.
    await services.enrolments.complete(thief.completion())
    with pytest.raises(EnrolmentClaimed):
        await services.enrolments.claim(victim.claim())


async def test_a_device_with_another_claim_id_can_neither_complete_nor_wait(services: Services) -> None:
    begun = await begin(services)
    phone = await claimed(services, begun)
    phone.claim_id = os.urandom(16).hex()
    with pytest.raises(EnrolmentClaimed):
        await services.enrolments.complete(phone.completion())
    with pytest.raises(EnrolmentClaimed):
        await services.enrolments.wait(phone.waiting())


async def test_no_second_key_once_sas_nonce_is_known(services: Services) -> None:
    """Otherwise a thief would try keys until the six digits match."""
    begun = await begin(services)
    phone, code = await completed(services, begun)
    first = phone.key.public.fingerprint
    for _ in range(5):
        phone.key = new_key()
        with pytest.raises(EnrolmentClosed):
            await services.enrolments.complete(phone.completion())
    done = await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
    assert done.fingerprint == first


async def test_another_attestation_is_another_completion(services: Services) -> None:
    services = EventfulServices(enrolment_policy=POLICY, attestation=Attesting())
    begun = await begin(services)
    phone, _ = await completed(services, begun)
    phone.statement = YubikeyAttestation(["AAAA", "AAAA"])
    with pytest.raises(EnrolmentClosed):
        await services.enrolments.complete(phone.completion())


@pytest.mark.parametrize("member", ["signature", "offer", "key", "claim"])
async def test_a_completion_must_be_signed_by_its_key_over_its_offer(services: Services, member: str) -> None:
    begun = await begin(services)
    phone = await claimed(services, begun)
    good = phone.completion()
    if member == "signature":
        bad = {"signature": encode_base64(bytes(64))}
    elif member == "key":
        bad = {"device_public_key": encode_base64(new_key().public.wire)}
    else:
        other = await claimed(services, await begin(services, account="mallory"), key=phone.key)
        bad = {"signature": other.completion().signature}
    members = {name: getattr(good, name) for name in good.__struct_fields__} | bad
    with pytest.raises(InvalidSignature):
        await services.enrolments.complete(CompleteEnrolment(**members))
    assert services.events[-1] == "enrolment_signature_failed"
    assert await state_of(services, begun) == "claimed"


async def test_a_relaying_man_in_the_middle_is_found_by_the_compared_code(services: Services) -> None:
    """It claims itself, and makes the victim a like offer: the codes differ, since D holds both keys and offers."""
    begun = await begin(services)
    attacker, seen = await completed(services, begun)
    victim = Phone.of(begun, offer_jcs=attacker.offer_jcs)
    answer = await services.enrolments.complete(attacker.completion())
    shown = victim.session(answer.sas_nonce)
    assert shown.code != seen
    with pytest.raises(WrongCode):
        await services.enrolments.confirm(CALLER, begun.enrolment_id, shown.code)


async def test_the_third_wrong_code_ends_it(services: Services) -> None:
    begun = await begin(services)
    phone, code = await completed(services, begun)
    for left in (2, 1, 0):
        with pytest.raises(WrongCode) as refused:
            await services.enrolments.confirm(CALLER, begun.enrolment_id, wrong(code))
        assert refused.value.details == {"attempts_left": left}
    status = await services.enrolments.status(CALLER, begun.enrolment_id)
    assert (status.status, status.reason, status.device_public_key) == ("failed", "wrong_code", None)
    with pytest.raises(EnrolmentClosed):
        await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
    with pytest.raises(EnrolmentClosed):
        await services.enrolments.complete(phone.completion())
    assert (await services.enrolments.wait(phone.waiting())).status == "failed"
    event = event_of(services, begun)
    assert event is not None
    assert (event["type"], event["reason"], event["account"]) == ("enrolment.failed", "wrong_code", "alice")
    assert "device_public_key" not in event


async def test_a_token_that_does_not_exist_causes_no_write(services: Services) -> None:
    await begin(services)
    writes: list[object] = []
    transact = services.store.transact

    async def counted(keys: Any, rule: Any, **given: Any) -> Any:
        writes.append(keys)
        return await transact(keys, rule, **given)

    services.store.transact = counted
    with pytest.raises(EnrolmentNotFound):
        await services.enrolments.claim(ClaimEnrolment("0" * 12, os.urandom(16).hex()))
    assert not writes


async def test_the_store_holds_neither_token_nor_claim_id_nor_code_in_clear(services: Services) -> None:
    begun = await begin(services)
    phone, code = await completed(services, begun)
    name = parse_uuid(begun.enrolment_id)
    assert name is not None
    import msgspec

    stored = msgspec.msgpack.encode(row_of(services, begun))
    for secret in (begun.token.encode(), bytes.fromhex(phone.claim_id), phone.claim_id.encode(), code.encode()):
        assert secret not in stored


async def test_no_repr_shows_a_secret(services: Services) -> None:
    begun = await begin(services)
    phone, code = await completed(services, begun)
    row = row_of(services, begun)
    for text in (repr(row), repr(begun), repr(phone.claim()), repr(row.completion.session)):
        assert begun.token not in text
        assert code not in text
        assert repr(row.completion.sas_nonce) not in text


async def test_only_the_owner_sees_it(services: Services) -> None:
    begun = await begin(services)
    _, code = await completed(services, begun)
    enrolments, at = services.enrolments, begun.enrolment_id
    for call in (enrolments.status(OTHER_CALLER, at), enrolments.cancel(OTHER_CALLER, at)):
        with pytest.raises(EnrolmentNotFound):
            await call
    with pytest.raises(EnrolmentNotFound):
        await enrolments.confirm(OTHER_CALLER, at, code)
    for malformed in ("", "x", at[:-1], "claim"):
        with pytest.raises(EnrolmentNotFound):
            await enrolments.status(CALLER, malformed)
    assert (await enrolments.status(CALLER, at.upper())).enrolment_id == at


# Keys.


async def test_a_key_of_the_server_cannot_be_enrolled(services: Services) -> None:
    for key in IDENTITY.keys.values():
        phone = await claimed(services, await begin(services), key=key)
        with pytest.raises(InvalidPublicKey):
            await services.enrolments.complete(phone.completion())
        with pytest.raises(InvalidPublicKey):
            await begin(services, replaces=encode_base64(key.public.wire))


async def test_a_malformed_key_is_rejected_before_anything_is_read(services: Services) -> None:
    phone = await claimed(services, await begin(services))
    good = phone.completion()
    members = {name: getattr(good, name) for name in good.__struct_fields__}
    with pytest.raises(InvalidPublicKey):
        await services.enrolments.complete(CompleteEnrolment(**members | {"device_public_key": "AAAA"}))
    with pytest.raises(InvalidRequest):
        await services.enrolments.complete(CompleteEnrolment(**members | {"device_public_key": "?"}))


# Rotation.


async def test_rotation_needs_the_consent_of_the_replaced_key(services: Services) -> None:
    old = new_key()
    begun = await begin(services, replaces=encode_base64(old.public.wire))
    phone = await claimed(services, begun)
    assert phone.offer.replaces == old.public.fingerprint
    with pytest.raises(InvalidRequest) as missing:
        await services.enrolments.complete(phone.completion())
    assert missing.value.details["path"] == "$.replaces_signature"
    phone.replaced = new_key()
    with pytest.raises(InvalidSignature):
        await services.enrolments.complete(phone.completion())
    phone.replaced = old
    answer = await services.enrolments.complete(phone.completion())
    done = await services.enrolments.confirm(CALLER, begun.enrolment_id, phone.session(answer.sas_nonce).code)
    assert done.replaced == old.public.fingerprint
    event = event_of(services, begun)
    assert event is not None
    assert event["replaced"] == old.public.fingerprint


async def test_a_consent_that_the_offer_did_not_ask_for_is_rejected(services: Services) -> None:
    phone = await claimed(services, await begin(services), replaced=new_key())
    with pytest.raises(InvalidRequest):
        await services.enrolments.complete(phone.completion())


async def test_a_key_does_not_replace_itself(services: Services) -> None:
    old = new_key()
    begun = await begin(services, replaces=encode_base64(old.public.wire))
    phone = await claimed(services, begun, key=old, replaced=old)
    with pytest.raises(InvalidRequest) as same:
        await services.enrolments.complete(phone.completion())
    assert same.value.details["path"] == "$.device_public_key"


# Without a code.


async def test_confirm_none_needs_replaces_or_the_setting(services: Services) -> None:
    with pytest.raises(InvalidRequest, match="SIGIL_ENROL_WITHOUT_CODE"):
        await begin(services, confirm="none")
    services.enrolments._policy = EnrolmentPolicy("Example", POLICY.public_url, without_code=True)
    await begin(services, confirm="none")


async def test_confirm_none_enrols_at_once_and_says_so_everywhere(services: Services) -> None:
    old = new_key()
    begun = await begin(services, confirm="none", replaces=encode_base64(old.public.wire))
    phone = await claimed(services, begun, replaced=old)
    assert phone.offer.confirm == "none"
    answer = await services.enrolments.complete(phone.completion())
    assert answer.status == "enrolled"
    assert await services.enrolments.complete(phone.completion()) == answer
    status = await services.enrolments.status(CALLER, begun.enrolment_id)
    assert (status.status, status.confirm) == ("enrolled", "none")
    assert status.device_public_key == encode_base64(phone.key.public.wire)
    event = event_of(services, begun)
    assert event is not None
    assert (event["type"], event["confirm"]) == ("enrolment.completed", "none")
    assert services.events.count("enrolment_enrolled") == 1


async def test_confirm_none_lives_two_minutes_at_most(services: Services) -> None:
    replaces = encode_base64(new_key().public.wire)
    with pytest.raises(InvalidRequest) as too_long:
        await begin(services, confirm="none", replaces=replaces, expires_in_seconds=121)
    assert too_long.value.details["path"] == "$.expires_in_seconds"
    begun = await begin(services, confirm="none", replaces=replaces)
    services.clock.now = int(START) + 120
    assert await state_of(services, begun) == "expired"


# Attestation.


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


async def test_an_attestation_is_verified_with_the_nonce_of_the_offer_and_kept(services: Services) -> None:
    attestation = Attesting()
    services = EventfulServices(enrolment_policy=POLICY, attestation=attestation)
    begun = await begin(services)
    phone = await claimed(services, begun, statement=STATEMENT)
    assert phone.offer.attestation.kinds == ["yubikey-piv"]
    answer = await services.enrolments.complete(phone.completion())
    assert answer.device_credential is not None
    assert encode_base64(attestation.given["nonce"]) == phone.offer.nonce
    assert attestation.given["enrolment_id"] == begun.enrolment_id
    status = await services.enrolments.status(CALLER, begun.enrolment_id)
    assert status.attestation is not None
    assert (status.attestation.kind, status.attestation.level) == ("yubikey-piv", "hardware")
    assert (await services.enrolments.wait(phone.waiting())).device_credential is None
    await services.enrolments.confirm(CALLER, begun.enrolment_id, phone.session(answer.sas_nonce).code)
    assert (await services.enrolments.wait(phone.waiting())).device_credential == answer.device_credential
    event = event_of(services, begun)
    assert event is not None
    assert event["attestation"]["level"] == "hardware"
    # A repetition does not verify again: the statement may have expired since.
    attestation.level = ""
    assert (await services.enrolments.complete(phone.completion())).device_credential == answer.device_credential


@pytest.mark.parametrize("statement", [AppleAssertion("AAAA"), AndroidAttestation(["AAAA", "AAAA"], False)])
async def test_a_kind_that_the_offer_does_not_list_is_rejected(services: Services, statement: Any) -> None:
    attestation = Attesting()
    services = EventfulServices(enrolment_policy=POLICY, attestation=attestation)
    phone = await claimed(services, await begin(services), statement=statement)
    with pytest.raises(AttestationInvalid) as refused:
        await services.enrolments.complete(phone.completion())
    assert refused.value.details == {"reason": "kind"}
    assert attestation.rejected == [kind_of(statement)]


async def test_a_server_without_attestation_accepts_none_and_promises_none(services: Services) -> None:
    with pytest.raises(InvalidRequest, match="SIGIL_ATTESTATION_KINDS"):
        await begin(services, min_level="hardware")
    phone = await claimed(services, await begin(services), statement=STATEMENT)
    with pytest.raises(AttestationInvalid) as refused:
        await services.enrolments.complete(phone.completion())
    assert refused.value.details == {"reason": "kind"}


@pytest.mark.parametrize(
    ("demanded", "required", "offered"),
    [
        (None, False, ""),
        ("emulator", False, "emulator"),
        ("secure_element", False, "secure_element"),
        (None, True, "hardware"),
        # An integrator can only tighten.
        ("emulator", True, "hardware"),
        ("secure_element", True, "secure_element"),
    ],
)
async def test_min_level_only_tightens(demanded: Any, required: bool, offered: str) -> None:
    attestation = Attesting(offered or "emulator", required=required)
    services = EventfulServices(enrolment_policy=POLICY, attestation=attestation)
    phone = await claimed(services, await begin(services, min_level=demanded))
    assert phone.offer.attestation.min_level == offered
    if offered:
        with pytest.raises(AttestationRequired):
            await services.enrolments.complete(phone.completion())
    # Through the port, which logs and counts it.
    assert attestation.rejected == ([""] if offered else [])
    phone.statement = STATEMENT
    await services.enrolments.complete(phone.completion())
    assert attestation.given["min_level"] == offered


async def test_a_level_below_the_demanded_one_is_rejected(services: Services) -> None:
    services = EventfulServices(enrolment_policy=POLICY, attestation=Attesting("hardware"))
    begun = await begin(services, min_level="secure_element")
    phone = await claimed(services, begun, statement=STATEMENT)
    with pytest.raises(AttestationInvalid) as refused:
        await services.enrolments.complete(phone.completion())
    assert refused.value.details == {"reason": "level"}
    assert await state_of(services, begun) == "claimed"


async def test_a_stricter_setting_counts_for_an_offer_of_before(services: Services) -> None:
    attestation = Attesting("emulator")
    services = EventfulServices(enrolment_policy=POLICY, attestation=attestation)
    phone = await claimed(services, await begin(services))
    attestation.required = True
    with pytest.raises(AttestationRequired):
        await services.enrolments.complete(phone.completion())
    phone.statement = STATEMENT
    with pytest.raises(AttestationInvalid):
        await services.enrolments.complete(phone.completion())


# Revoked devices.


async def test_a_revoked_device_can_neither_enrol_nor_consent() -> None:
    key, old = new_key(), new_key()
    services = EventfulServices(
        enrolment_policy=POLICY, revoked=frozenset({key.public.fingerprint, old.public.fingerprint})
    )
    phone = await claimed(services, await begin(services), key=key)
    with pytest.raises(DeviceRevoked):
        await services.enrolments.complete(phone.completion())
    with pytest.raises(DeviceRevoked):
        await begin(services, replaces=encode_base64(old.public.wire))


@pytest.mark.parametrize("which", ["new", "old"])
@pytest.mark.parametrize("after", ["claim", "completion"])
async def test_a_revocation_counts_in_the_middle_of_an_enrolment(services: Services, which: str, after: str) -> None:
    key, old = new_key(), new_key()
    begun = await begin(services, replaces=encode_base64(old.public.wire))
    phone = await claimed(services, begun, key=key, replaced=old)
    code = "000000"
    if after == "completion":
        code = phone.session((await services.enrolments.complete(phone.completion())).sas_nonce).code
    revoked = key if which == "new" else old
    services.enrolments._devices._revoked = frozenset({revoked.public.fingerprint})
    with pytest.raises(DeviceRevoked):
        await services.enrolments.complete(phone.completion())
    if after == "completion":
        with pytest.raises(DeviceRevoked):
            await services.enrolments.confirm(CALLER, begun.enrolment_id, code)
        assert await state_of(services, begun) == "confirming"


# Time.


@pytest.mark.parametrize("state", [State.PENDING, State.CLAIMED, State.CONFIRMING])
@pytest.mark.parametrize("swept", [True, False])
async def test_every_open_state_expires_with_one_event(services: Services, state: State, swept: bool) -> None:
    begun, _, _ = await in_state(services, state)
    services.clock.now = int(START) + 599.9
    assert await state_of(services, begun) == state.wire_name
    services.clock.now = int(START) + 600
    if swept:
        await services.sweep()
    status = await services.enrolments.status(CALLER, begun.enrolment_id)
    assert (status.status, status.device_public_key) == ("expired", None)
    await services.sweep()
    assert services.events.count("enrolment_expired") == 1
    event = event_of(services, begun)
    assert event is not None
    assert event["type"] == "enrolment.expired"
    assert ("fingerprint" in event) == (state is State.CONFIRMING)


@pytest.mark.parametrize("swept", [True, False])
async def test_a_result_is_readable_for_ten_minutes(services: Services, swept: bool) -> None:
    begun = await begin(services)
    phone = await enrolled(services, begun)
    services.clock.now = int(START) + 599.9
    assert await state_of(services, begun) == "enrolled"
    services.clock.now = int(START) + 600
    if swept:
        await services.sweep()
    with pytest.raises(EnrolmentNotFound):
        await state_of(services, begun)
    with pytest.raises(EnrolmentNotFound):
        await services.enrolments.claim(phone.claim())


async def test_the_sweep_deletes_the_row_with_its_indices(services: Services) -> None:
    body = BeginEnrolment("alice")
    begun, _ = await services.enrolments.begin(CALLER, body, Idempotency("key", b"body"))
    services.clock.now += 600
    await services.sweep()
    services.clock.now += 600
    await services.sweep()
    assert row_of(services, begun) is None
    assert services.store.peek(token_key(signed_bytes.enrolment_token_sha256(begun.token))) is None
    assert not services.store.names(ENROLMENT, b"", 1)
    assert not services.store.names(ENROLMENT_TOKEN, b"", 1)
    assert services.store.count(EVENT) == 1
    again, replayed = await services.enrolments.begin(CALLER, body, Idempotency("key", b"body"))
    assert not replayed
    assert again.enrolment_id != begun.enrolment_id


@pytest.mark.parametrize("step", ["claim", "complete", "confirm", "cancel"])
async def test_a_step_that_races_with_the_expiry_sees_one_end(services: Services, step: str) -> None:
    """The row is read before the deadline, and the transaction runs after it."""
    state = {"claim": State.PENDING, "complete": State.CLAIMED}.get(step, State.CONFIRMING)
    begun, phone, code = await in_state(services, state)
    services.clock.now = int(START) + 599.9
    transact = services.store.transact

    async def late(keys: Any, rule: Any, **given: Any) -> Any:
        services.clock.now = int(START) + 600
        return await transact(keys, rule, **given)

    services.store.transact = late
    with pytest.raises((EnrolmentExpired, EnrolmentClosed)):
        await ATTEMPTS[step](services, begun, phone, code)  # type: ignore[index]
    assert await state_of(services, begun) == "expired"
    assert services.events.count("enrolment_expired") == 1


async def test_a_cancellation_and_a_confirmation_at_once_have_one_end(services: Services) -> None:
    for first, second in itertools.permutations(["confirm", "cancel"]):
        begun, phone, code = await in_state(services, State.CONFIRMING)
        await ATTEMPTS[first](services, begun, phone, code)  # type: ignore[index]
        with pytest.raises(EnrolmentClosed):
            await ATTEMPTS[second](services, begun, phone, code)  # type: ignore[index]


async def test_a_cancellation_has_no_event_and_a_repeated_one_is_no_error(services: Services) -> None:
    begun, _, _ = await in_state(services, State.CONFIRMING)
    cancelled = await services.enrolments.cancel(CALLER, begun.enrolment_id)
    assert await services.enrolments.cancel(CALLER, begun.enrolment_id) == cancelled
    assert event_of(services, begun) is None
    assert services.events.count("enrolment_cancelled") == 1


# Idempotency and capacity.


async def test_the_same_idempotency_key_and_body_begin_one_enrolment(services: Services) -> None:
    body = BeginEnrolment("alice")
    first, replayed = await services.enrolments.begin(CALLER, body, Idempotency("key", b"body"))
    assert not replayed
    services.enrolments._policy = EnrolmentPolicy("Example", "https://other.example.com")
    assert await services.enrolments.begin(CALLER, body, Idempotency("key", b"body")) == (first, True)
    with pytest.raises(IdempotencyConflict):
        await services.enrolments.begin(CALLER, body, Idempotency("key", b"other"))
    other, replayed = await services.enrolments.begin(OTHER_CALLER, body, Idempotency("key", b"body"))
    assert not replayed
    assert other.token != first.token


async def test_open_enrolments_of_one_owner_have_a_limit() -> None:
    services = EventfulServices(enrolment_policy=POLICY, max_enrolments=2)
    first = await begin(services)
    second = await begin(services)
    with pytest.raises(TooManyEnrolments) as refused:
        await begin(services)
    assert refused.value.limit == "key_enrolments"
    await services.enrolments.begin(OTHER_CALLER, BeginEnrolment("bob"))
    await services.enrolments.cancel(CALLER, first.enrolment_id)
    await begin(services)
    with pytest.raises(TooManyEnrolments):
        await begin(services)
    await enrolled(services, second)
    await begin(services)
    services.clock.now += 600
    await services.sweep()
    await begin(services)
    await begin(services)
    tally = services.store.peek(tally_key(CALLER.owner))
    assert tally.enrolments == 2


async def test_a_full_store_rejects_new_enrolments_and_completes_the_open_ones() -> None:
    services = EventfulServices(enrolment_policy=POLICY, max_enrolments=10_000, size=1 << 20, attestation=Attesting())
    begun = []

    async def fill() -> None:
        while True:
            begun.append(await begin(services, account="💎" * 128))

    with pytest.raises(Overloaded):
        await fill()
    assert 30 < len(begun) < 70
    for one in begun:
        await enrolled(services, one, statement=STATEMENT)
    services.clock.now += 600
    await services.sweep()
    await services.sweep()
    await services.sweep()


@pytest.mark.parametrize("account", ["", "a" * 129, "line\nbreak", "\u202e", " "])
async def test_an_account_must_be_displayable(services: Services, account: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await begin(services, account=account)
    assert refused.value.details["path"] == "$.account"


async def test_the_same_idempotency_key_at_once_begins_one_enrolment(services: Services) -> None:
    async with all_reads_before_any_transaction(services.store, 3):
        pairs = await asyncio.gather(
            *(services.enrolments.begin(CALLER, BeginEnrolment("alice"), Idempotency("key", b"body")) for _ in range(3))
        )
    assert len({begun.token for begun, _ in pairs}) == 1
    assert sorted(replayed for _, replayed in pairs) == [False, True, True]
    assert services.store.count(ENROLMENT) == 1


async def test_a_device_holds_four_long_polls_and_none_of_the_owners(services: Services) -> None:
    begun = await begin(services)
    phone = await claimed(services, begun)
    waiting = [asyncio.create_task(services.enrolments.wait(phone.waiting(25))) for _ in range(6)]
    done, pending = await asyncio.wait(waiting, timeout=0.2)
    assert [task.result().status for task in done] == ["claimed", "claimed"]
    assert len(pending) == len(services.long_polls) == 4
    page = asyncio.create_task(services.enrolments.status(CALLER, begun.enrolment_id, 25))
    await asyncio.sleep(0.01)
    assert len(services.long_polls) == 5
    assert services.long_polls._of_owner[CALLER.owner] == 1
    await services.enrolments.cancel(CALLER, begun.enrolment_id)
    services.long_polls.wake_all()
    assert {task.status for task in await asyncio.gather(*pending)} == {"cancelled"}
    assert (await page).status == "cancelled"


async def test_a_long_poll_returns_at_a_change_and_at_once_for_a_status_that_the_caller_does_not_know(
    services: Services,
) -> None:
    begun = await begin(services)
    page = asyncio.create_task(services.enrolments.status(CALLER, begun.enrolment_id, 25, "pending"))
    await asyncio.sleep(0.01)
    await claimed(services, begun)
    name = parse_uuid(begun.enrolment_id)
    assert name is not None
    assert (await services.store.read_end_log(0)).ids == (name,), "what wakes the long polls of every worker"
    services.long_polls.wake([name])
    assert (await page).status == "claimed"
    at_once = services.enrolments.status(CALLER, begun.enrolment_id, 25, "pending")
    assert (await asyncio.wait_for(at_once, 10)).status == "claimed"


async def test_without_an_address_for_devices_the_error_names_the_setting() -> None:
    services = EventfulServices(enrolment_policy=EnrolmentPolicy())
    with pytest.raises(InvalidRequest, match="SIGIL_PUBLIC_URL"):
        await begin(services)
    begun, _ = await services.enrolments.begin(CALLER, BeginEnrolment("a"), origin="http://localhost:8443")
    assert parse_uri(begun.uri).base_url == "http://localhost:8443"


def test_the_rules_write_what_the_table_names() -> None:
    """`_changed` compares each transition with the table, so a rule cannot bypass it."""
    from sigil.core.enrolment import rules
    from sigil.core.enrolment.row import Enrolment

    row = Enrolment(b"o" * 16, "a", hashlib.sha256(b"t").digest(), "https://a.example", 1000, 60)
    with pytest.raises(KeyError):
        rules._changed(b"i" * 16, row, "confirm", row)
    with pytest.raises(ValueError, match="does not lead"):
        rules._changed(b"i" * 16, row, "cancel", row)
    assert isinstance(rules.cancel(1.0, b"i" * 16, row), Decision)
