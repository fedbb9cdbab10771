"""The steps of an enrolment in each state, its expiry and its deletion, with a clock that the test moves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from sigil.core.enrolment.row import ENROLMENT, ENROLMENT_TOKEN, OPEN, TRANSITIONS, State, Transition, token_key
from sigil.core.webhooks.event import EVENT
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.enrolment.link import is_token, parse_uri
from sigil.protocol.errors import EnrolmentClaimed, EnrolmentClosed, EnrolmentExpired, EnrolmentNotFound, Problem
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.enrolment import BeginEnrolment
from sigil.sessions.idempotency import Idempotency
from tests.support.enrolling import Phone
from tests.support.services import CALLER, IDENTITY, START, Services

from .steps import POLICY, begin, claimed, enrolled, event_of, in_state, row_of, state_of, wrong


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
