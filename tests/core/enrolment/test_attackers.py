"""Attackers: a second claim or key, a relaying device, wrong codes and tokens, keys that may not be enrolled."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import (
    EnrolmentClaimed,
    EnrolmentClosed,
    EnrolmentNotFound,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    WrongCode,
)
from sigil.protocol.messages.attestation import YubikeyAttestation
from sigil.protocol.messages.enrolment import ClaimEnrolment, CompleteEnrolment
from tests.support.enrolling import Phone, new_key
from tests.support.services import CALLER, IDENTITY, OTHER_CALLER, Services

from .steps import POLICY, Attesting, EventfulServices, begin, claimed, completed, event_of, row_of, state_of, wrong


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


async def test_a_key_of_the_server_cannot_be_enrolled(services: Services) -> None:
    for key in IDENTITY.keys.values():
        phone = await claimed(services, await begin(services), key=key)
        with pytest.raises(InvalidPublicKey):
            await services.enrolments.complete(phone.completion())
        with pytest.raises(InvalidPublicKey, match=r"^replaces "):
            await begin(services, replaces=encode_base64(key.public.wire))
    with pytest.raises(InvalidPublicKey, match=r"^replaces "):
        await begin(services, replaces="AAAA")


async def test_a_malformed_key_is_rejected_before_anything_is_read(services: Services) -> None:
    phone = await claimed(services, await begin(services))
    good = phone.completion()
    members = {name: getattr(good, name) for name in good.__struct_fields__}
    with pytest.raises(InvalidPublicKey):
        await services.enrolments.complete(CompleteEnrolment(**members | {"device_public_key": "AAAA"}))
    with pytest.raises(InvalidRequest):
        await services.enrolments.complete(CompleteEnrolment(**members | {"device_public_key": "?"}))
