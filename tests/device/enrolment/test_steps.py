"""The checks before a key is made for an offer, and before a code is shown: one forged member each."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from sigil.device import Device
from sigil.device.enrolment.errors import (
    CodeNotCompared,
    CodeNotConfirmed,
    CommitmentBroken,
    EnrolmentEndUnknown,
    OfferExpired,
    OfferForAnotherClaim,
    OfferForAnotherToken,
    OfferMalformed,
    OfferOfAnotherServer,
    OfferRefused,
    OfferSignatureInvalid,
)
from sigil.device.enrolment.steps import (
    check_waiting,
    checked_offer,
    checked_session,
    completion_body,
    digest_of,
    is_enrolled,
    waiting_end,
)
from sigil.device.errors import AnswerUnusable
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.messages.enrolment import EnrolmentCompleted, EnrolmentWaited
from tests.device.enrolment.offers import (
    CLAIM_ID,
    TARGET,
    completed,
    honest_offer,
    members,
    offered,
    pin,
    session_at_server,
)
from tests.device.fake_server import NOW, identity


def test_an_honest_offer_is_accepted_with_its_account_and_nonce() -> None:
    offer = honest_offer()
    assert (offer.account, offer.nonce, offer.replaces) == ("alice@example.com", b"n" * 32, "")
    assert offer.seconds_left(NOW) == 599


@pytest.mark.parametrize(
    ("forged", "error"),
    [
        ({"server_id": "ab" * 32}, OfferOfAnotherServer),
        ({"token_sha256": "ab" * 32}, OfferForAnotherToken),
        ({"claim_id": "ab" * 16}, OfferForAnotherClaim),
        ({"expires_at": format_time(int(NOW) - 61)}, OfferExpired),
        ({"expires_at": "2026-01-01"}, OfferMalformed),
        ({"account": "alice\u202egro.elpmaxe"}, OfferMalformed),
        ({"account": "a" * 129}, OfferMalformed),
        ({"account": " "}, OfferMalformed),
        ({"server_name": "\x1b[2J"}, OfferMalformed),
        ({"commitment": "AAAA"}, OfferMalformed),
        ({"nonce": encode_base64(b"n" * 31)}, OfferMalformed),
        ({"confirm": "later"}, OfferMalformed),
        ({"enrolment_id": "1"}, OfferMalformed),
        ({"replaces": "AB" * 32}, OfferMalformed),
        ({"attestation": {"kinds": ["b", "a"], "min_level": ""}}, OfferMalformed),
        ({"attestation": {"kinds": [], "min_level": "high"}}, OfferMalformed),
        ({"attestation": {"kinds": []}}, OfferMalformed),
        ({"more": "x"}, OfferMalformed),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_offer_with_one_forged_member_is_refused_although_the_server_signed_it(
    forged: dict[str, Any], error: type[OfferRefused]
) -> None:
    with pytest.raises(OfferRefused) as refused:
        checked_offer(offered(members(**forged)), TARGET, CLAIM_ID, pin(), NOW)
    assert type(refused.value) is error


@pytest.mark.parametrize("member", sorted(members()))
def test_an_offer_without_one_of_its_members_is_refused(member: str) -> None:
    fewer = {name: value for name, value in members().items() if name != member}
    with pytest.raises(OfferMalformed):
        checked_offer(offered(fewer), TARGET, CLAIM_ID, pin(), NOW)


@pytest.mark.parametrize("change", ["account", "commitment", "confirm", "nonce", "replaces", "attestation"])
def test_a_member_that_was_changed_after_the_signature_is_found(change: str) -> None:
    others = {
        "account": "mallory",
        "commitment": encode_base64(b"c" * 32),
        "confirm": "none",
        "nonce": encode_base64(b"m" * 32),
        "replaces": "ab" * 32,
        "attestation": {"kinds": ["yubikey-piv"], "min_level": ""},
    }
    honest = offered(members())
    answer = type(honest)(offered(members(**{change: others[change]})).offer, honest.server_signature)
    with pytest.raises(OfferSignatureInvalid):
        checked_offer(answer, TARGET, CLAIM_ID, pin(), NOW)


def test_the_signature_of_another_server_and_none_at_all_are_refused() -> None:
    foreign = offered(members(), signer=identity(7))
    for answer in (foreign, type(foreign)(foreign.offer, ""), type(foreign)(foreign.offer, "AAAA")):
        with pytest.raises(OfferSignatureInvalid):
            checked_offer(answer, TARGET, CLAIM_ID, pin(), NOW)


def test_an_offer_in_another_spelling_is_refused() -> None:
    text = canonical(members())
    for spelling in (text.replace(b",", b", "), text[:-1] + b',"account":"alice@example.com"}', text + b" "):
        with pytest.raises(OfferMalformed):
            checked_offer(offered(spelling), TARGET, CLAIM_ID, pin(), NOW)


def test_an_enrolment_without_a_code_needs_the_link() -> None:
    answer = offered(members(confirm="none"))
    assert checked_offer(answer, TARGET, CLAIM_ID, pin(), NOW).members.confirm == "none"
    # Also with --pin: only a link comes with the token from one place.
    typed = dataclasses.replace(TARGET, from_link=False)
    with pytest.raises(CodeNotCompared):
        checked_offer(answer, typed, CLAIM_ID, pin(), NOW)


def test_a_completion_is_signed_by_the_new_key_and_by_the_replaced_one() -> None:
    old, new = Device.generate("Ed25519"), Device.generate()
    offer = honest_offer(replaces=old.fingerprint)
    statement = {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"]}
    body = completion_body(new, offer, attestation=statement, replaced=old)
    digest = (
        hashlib.sha256(offer.jcs).digest()
        + hashlib.sha256(new.public.wire).digest()
        + hashlib.sha256(canonical(statement)).digest()
    )
    signature, consent = (decode_base64(body[name], "$") for name in ("signature", "replaces_signature"))
    assert new.public.verify(b"SIGIL-ENROL-V1\0" + digest, signature)
    assert old.public.verify(b"SIGIL-ENROL-REPLACE-V1\0" + digest, consent)
    assert body["attestation"] == statement
    assert set(completion_body(new, offer)) == {"enrolment_id", "claim_id", "device_public_key", "signature"}


def test_the_code_is_that_of_the_server_and_another_key_has_another() -> None:
    offer, device = honest_offer(), Device.generate()
    body = completion_body(device, offer)
    shown = checked_session(completed(), offer, body)
    assert shown == session_at_server(offer, device.wire_key)
    assert (len(shown.code), len(shown.pictogram)) == (6, 5)
    # An attestation is part of what the code is computed from.
    attested = completion_body(device, offer, attestation={"kind": "yubikey-piv", "x5c": []})
    assert checked_session(completed(), offer, attested) != shown


def test_a_server_that_reveals_another_nonce_than_it_committed_to_is_found() -> None:
    offer = honest_offer()
    body = completion_body(Device.generate(), offer)
    with pytest.raises(CommitmentBroken, match="enter no code"):
        checked_session(completed(sas_nonce=b"t" * 32), offer, body)
    with pytest.raises(AnswerUnusable):
        checked_session(EnrolmentCompleted(sas_nonce="AAAA", status="confirming"), offer, body)


def test_the_digest_that_an_attestation_holds_names_this_enrolment_and_server() -> None:
    offer = honest_offer()
    expected = signed_bytes.attest_digest(
        context=offer.enrolment_id, key="k", kind="apple-appattest", nonce=offer.nonce, server_id=pin().server_id
    )
    assert offer.attest_digest("apple-appattest", "k") == expected
    assert offer.attest_digest("apple-appattest", "") != expected
    assert digest_of(offer, Device.generate().wire_key, None) != digest_of(offer, Device.generate().wire_key, None)


@pytest.mark.parametrize(
    ("status", "text"), [("failed", "three times"), ("expired", "in time"), ("cancelled", "cancelled")]
)
def test_an_enrolment_that_ends_without_this_device_says_why_and_what_to_do(status: Any, text: str) -> None:
    with pytest.raises(CodeNotConfirmed, match=text) as ended:
        is_enrolled(EnrolmentWaited(status=status))
    assert "new enrolment" in ended.value.message


def test_waiting_ends_with_the_offer_by_this_devices_clock_too() -> None:
    end = waiting_end(honest_offer(), NOW)
    check_waiting(end, NOW + 600)
    with pytest.raises(EnrolmentEndUnknown):
        check_waiting(end, NOW + 661)
    # No offer lives longer than that, also one that names another end.
    assert waiting_end(honest_offer(expires_at="2099-01-01T00:00:00Z"), NOW) == NOW + 960
