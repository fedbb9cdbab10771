"""Keys of web devices in the services: only those of this server's address, never with an attestation, and what their
signatures proved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from sigil.core.webhooks.event import event_key
from sigil.device import Device
from sigil.enrolment.service import EnrolmentPolicy
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import encode_base64url
from sigil.protocol.enrolment.link import parse_uri, web_uri
from sigil.protocol.errors import (
    AttestationInvalid,
    AttestationRequired,
    InvalidPublicKey,
    InvalidSignature,
)
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.approvals import MAX_BODY
from sigil.webhooks import messages as webhook_messages
from tests.attestation.examples import POLICY as ATTESTED
from tests.core.enrolment.steps import STATEMENT, EventfulServices, begin, claimed, event_of
from tests.support.services import CALLER, IDENTITY, Services
from tests.support.web_key import BE, UP, UV, WebKey

ORIGIN = "https://auth.example.com"
PLAIN = Device.from_secret("ES256", b"\x07" * 32)


def web_device(origin: str = ORIGIN) -> Device:
    return Device(cast(PrivateKey, WebKey(origin)))


class SyncedKey(WebKey):
    """A passkey that may exist on several devices."""

    def sign(self, message: bytes, **forged: Any) -> bytes:
        return super().sign(message, **{"flags": UP | UV | BE, **forged})


def proved(reported: Any) -> tuple[bool | None, bool | None]:
    """`user_verification` and `synced` of a message, or of its JSON."""
    if isinstance(reported, dict):
        return reported.get("user_verification"), reported.get("synced")
    return reported.user_verification, reported.synced


def services(public_url: str | None = ORIGIN, **given: Any) -> Services:
    return EventfulServices(enrolment_policy=EnrolmentPolicy(server_name="Example", public_url=public_url), **given)


async def complete(running: Services, key: WebKey, **given: Any) -> Any:
    phone = await claimed(running, await begin(running), key=key, **given)
    return await running.enrolments.complete(phone.completion())


async def test_a_key_of_this_address_enrols_and_decides() -> None:
    running, device = services(), web_device()
    await complete(running, WebKey(ORIGIN))
    created = await running.create_challenge(device, matching=False)
    assert await running.pending_ids(device) == [created.challenge_id]
    assert (await running.approve(device, created)).verified
    assert (await running.reject(device, await running.create_challenge(device))).status == "rejected"
    requested = await running.create_approval([[device], [PLAIN]], 2)
    assert (await running.vote(device, requested)).groups_satisfied == 1


@pytest.mark.parametrize(("key", "facts"), [(WebKey(ORIGIN), (True, False)), (SyncedKey(ORIGIN), (True, True))])
async def test_statuses_votes_and_events_report_what_a_web_device_proved(key: WebKey, facts: tuple[bool, bool]) -> None:
    running, device = services(), Device(cast(PrivateKey, key))
    created = await running.create_challenge(device)
    pending = await running.challenges.status(CALLER, created.challenge_id)
    assert proved(pending) == (None, None)
    await running.approve(device, created)
    assert proved(await running.challenges.status(CALLER, created.challenge_id)) == facts
    assert proved(await event(running, created.challenge_id)) == facts

    begun = await begin(running)
    phone = await claimed(running, begun, key=key)
    answer = await running.enrolments.complete(phone.completion())
    assert proved(await running.enrolments.status(CALLER, begun.enrolment_id)) == facts
    await running.enrolments.confirm(CALLER, begun.enrolment_id, phone.session(answer.sas_nonce).code)
    assert proved(await running.enrolments.status(CALLER, begun.enrolment_id)) == facts
    assert proved(event_of(running, begun)) == facts

    requested = await running.create_approval([[device], [PLAIN]], 2)
    await running.vote(device, requested)
    await running.vote(PLAIN, requested)
    votes = {vote.fingerprint: vote for vote in (await running.approval_status(requested)).votes}
    assert proved(votes[device.fingerprint]) == facts
    assert proved(votes[PLAIN.fingerprint]) == (None, None)


async def test_a_rejection_by_a_web_device_is_reported_as_not_user_verified() -> None:
    """The local key signs it without a prompt."""
    running, device = services(), web_device()
    created = await running.create_challenge(device)
    await running.reject(device, created, "cancelled")
    assert proved(await running.challenges.status(CALLER, created.challenge_id)) == (False, None)
    assert proved(await event(running, created.challenge_id)) == (False, None)
    requested = await running.create_approval([[device]], 1)
    await running.vote(device, requested, "rejected")
    (vote,) = (await running.approval_status(requested)).votes
    assert proved(vote) == (False, None)


async def test_another_device_has_neither_member() -> None:
    running = services()
    created = await running.create_challenge(PLAIN)
    await running.approve(PLAIN, created)
    assert proved(await running.challenges.status(CALLER, created.challenge_id)) == (None, None)
    assert proved(await event(running, created.challenge_id)) == (None, None)


async def event(running: Services, challenge_id: str) -> Any:
    name = parse_uuid(challenge_id)
    assert name is not None
    return json.loads(webhook_messages.body(name, await running.store.get(event_key(name))))


@pytest.mark.parametrize(
    ("public_url", "origin", "text"),
    [
        (ORIGIN, "https://other.example.com", f"enrol it again at {ORIGIN}/device/"),
        (ORIGIN, f"{ORIGIN}:8443", f"enrol it again at {ORIGIN}/device/"),
        (ORIGIN, "http://localhost:8080", f"enrol it again at {ORIGIN}/device/"),
        ("http://localhost:8080", "http://localhost:8081", "enrol it again at http://localhost:8080/device/"),
        (None, ORIGIN, "SIGIL_PUBLIC_URL"),
        ("https://192.0.2.1", ORIGIN, "SIGIL_PUBLIC_URL"),
        ("http://127.0.0.1:8080", ORIGIN, "SIGIL_PUBLIC_URL"),
    ],
)
async def test_a_key_of_another_address_gets_nothing(public_url: str | None, origin: str, text: str) -> None:
    running, device = services(public_url), web_device(origin)
    with pytest.raises(InvalidPublicKey) as refused:
        await running.create_challenge(device)
    assert text in refused.value.message
    with pytest.raises(InvalidPublicKey) as refused:
        await running.create_approval([[PLAIN], [device]], 1)
    assert text in refused.value.message
    assert refused.value.details == {"path": "$.groups[1].members[0].device_public_key"}
    if public_url is not None:
        with pytest.raises(InvalidPublicKey) as refused:
            await complete(running, WebKey(origin))
        assert text in refused.value.message
    await running.create_challenge(PLAIN)


def test_a_request_of_a_thousand_web_devices_fits_into_the_limit_of_bodies() -> None:
    key = WebKey(ORIGIN)
    member = {"device_public_key": key.wire_key, "fingerprint": key.fingerprint}
    action = {"type": "t" * 64, "description": "d" * 256, "params": {"p": "x" * 1600}}
    body = {"action": action, "required": 20, "groups": [{"members": [member] * 50}] * 20, "request_id": "r" * 128}
    assert len(json.dumps(body)) <= MAX_BODY


async def test_an_enrolment_has_a_web_link_where_a_web_device_may_enrol() -> None:
    policy = EnrolmentPolicy(public_url=ORIGIN, web_origin=ORIGIN)
    begun = await begin(Services(enrolment_policy=policy))
    link = parse_uri(begun.uri)
    assert begun.web_uri == web_uri(link)
    assert begun.web_uri == f"{ORIGIN}/device/#s={encode_base64url(bytes.fromhex(IDENTITY.server_id))}&t={begun.token}"
    # The web app refuses an offer that replaces a key: a QR code of its link would lead the old device nowhere.
    replacing = await begin(Services(enrolment_policy=policy), replaces=PLAIN.wire_key)
    assert (replacing.web_uri, parse_uri(replacing.uri).base_url) == (None, ORIGIN)
    # No web app; an attestation, which no web device has, demanded by the integrator or by the server.
    assert (await begin(Services(enrolment_policy=replace(policy, web_origin=None)))).web_uri is None
    assert (await begin(Services(enrolment_policy=policy, accepted=ATTESTED), min_level="hardware")).web_uri is None
    required = Services(enrolment_policy=policy, accepted=replace(ATTESTED, required=True))
    assert (await begin(required)).web_uri is None
    assert (await begin(Services(enrolment_policy=policy, accepted=ATTESTED))).web_uri is not None


async def test_a_wrong_signature_is_reported_before_the_address_of_the_key() -> None:
    running = services()
    phone = await claimed(running, await begin(running), key=WebKey("https://other.example.com"))
    forged = replace(phone, key=WebKey("https://other.example.com")).completion().signature
    with pytest.raises(InvalidSignature):
        await running.enrolments.complete(msgspec.structs.replace(phone.completion(), signature=forged))


async def test_where_attestation_is_required_a_web_device_neither_enrols_nor_approves() -> None:
    created_before = services()
    device = web_device()
    running = services(accepted=replace(ATTESTED, required=True))
    with pytest.raises(AttestationRequired):
        await complete(running, WebKey(ORIGIN))
    with pytest.raises(AttestationRequired):
        await running.approve(device, await running.create_challenge(device))
    # Also by an offer from before the reload that requires it.
    phone = await claimed(created_before, await begin(created_before), key=WebKey(ORIGIN))
    created_before.enrolments._attestation = running.credentials
    with pytest.raises(AttestationRequired):
        await created_before.enrolments.complete(phone.completion())


async def test_no_statement_attests_the_key_of_a_web_device() -> None:
    running = services(accepted=ATTESTED)
    with pytest.raises(AttestationInvalid) as refused:
        await complete(running, WebKey(ORIGIN), statement=STATEMENT)
    assert refused.value.details == {"reason": "key_properties"}
