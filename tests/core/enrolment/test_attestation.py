"""The attestation that an offer demands, and revoked devices."""

from __future__ import annotations

from typing import Any

import pytest

from sigil.attestation.verify import kind_of
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.errors import AttestationInvalid, AttestationRequired, DeviceRevoked, InvalidRequest
from sigil.protocol.messages.attestation import AndroidAttestation, AppleAssertion
from tests.support.enrolling import new_key
from tests.support.services import CALLER, Services

from .steps import POLICY, STATEMENT, Attesting, EventfulServices, begin, claimed, event_of, state_of


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
