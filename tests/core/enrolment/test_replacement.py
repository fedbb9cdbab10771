"""Enrolments that replace a key, and enrolments without a code."""

from __future__ import annotations

import pytest

from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import InvalidRequest, InvalidSignature
from tests.support.enrolling import new_key
from tests.support.services import CALLER, START, Services

from .steps import POLICY, begin, claimed, event_of, state_of


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
