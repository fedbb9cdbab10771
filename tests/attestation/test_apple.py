"""App Attest, check by check: a sound iPhone is accepted, and one forged field gets the reason of its check.

The clock is fixed, and the chains are minted under a test root.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.attestation.hostile import APPLE
from sigil.attestation.apple import authenticator_data
from sigil.attestation.apple.verify import verify
from sigil.attestation.certificates.roots import anchors
from sigil.attestation.encoding.cbor import CborError
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import Rejected, run
from sigil.device.software import Device
from sigil.device.test_phone import cbor, der
from sigil.device.test_phone.apple import AppleFields, ApplePhone
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.attestation import AppleAttestation
from tests.attestation.apple import APP, DEVICE, NOW, POLICY, ROOT, attested_by, digest_for, expected, statement

REASONS_OF_STATEMENT = {"malformed", "root", "chain", "challenge", "key_properties", "app", "environment", "kind"}


def test_a_sound_iphone_is_attested_with_its_facts() -> None:
    found = attested_by(statement())
    assert (found.kind, found.level, found.binding, found.app) == ("apple-appattest", "hardware", "witness", APP)
    assert (found.facts.environment, found.facts.category, found.facts.counter) == ("production", 4, 0)
    key = base64.b64decode(found.facts.app_attest_key or "")
    assert len(key) == 33
    assert found.facts.serials == ()


@pytest.mark.parametrize("flags", [0x40, 0xC0, 0x00, 0x41])
@pytest.mark.parametrize("category", [None, 2, 4])
def test_the_store_testflight_and_older_systems_are_accepted_with_any_flags(category: int | None, flags: int) -> None:
    assert attested_by(statement(category=category, flags=flags)).facts.category == category


def test_a_system_before_ios_27_has_no_extensions_and_others_have_some_more() -> None:
    assert attested_by(statement(category=None, bundle_version=None)).facts.category is None
    code = cbor.encode(
        {
            "apple_cd_hash_hash_01": bytes(32),
            "apple_cd_hash_type_01": b"\2",
            "apple_validation_category_01": b"\4\0\0\0",
        }
    )
    assert attested_by(statement(extensions=code)).facts.category == 4


@pytest.mark.parametrize("app", POLICY.apple_apps)
def test_each_configured_app_is_accepted_and_named(app: str) -> None:
    assert attested_by(statement(app=app)).app == app


def test_a_development_build_is_accepted_where_development_is_configured() -> None:
    policy = with_policy(apple_environment="development")
    sent = statement(environment="development", category=3)
    assert attested_by(sent, expected(policy=policy)).facts.environment == "development"
    with pytest.raises(Rejected) as rejected:
        attested_by(statement(), expected(policy=policy))
    assert rejected.value.reason == "environment"


def with_policy(**changes: Any) -> AttestationPolicy:
    return replace(POLICY, **changes)


def test_every_reason_that_app_attest_can_give_has_a_hostile_case() -> None:
    assert {case.reason for case in APPLE.values()} == REASONS_OF_STATEMENT


@pytest.mark.parametrize(
    "change", ["device", "context", "nonce", "server", "kind"], ids=lambda change: f"another {change}"
)
def test_an_attestation_is_of_one_device_flow_and_server(change: str) -> None:
    key = encode_base64(DEVICE.public.wire)
    digests: dict[str, dict[str, Any]] = {
        "device": {"device_key": Device.generate().public},
        "context": {"digest": lambda key: digest_for("apple-appattest", key, context="an enrolment")},
        "nonce": {"digest": lambda key: digest_for("apple-appattest", key, nonce=bytes(32))},
        "server": {"digest": lambda _key: bytes(32)},
        "kind": {"digest": lambda _key: digest_for("apple-assertion", key)},
    }
    with pytest.raises(Rejected) as rejected:
        attested_by(statement(), expected(**digests[change]))
    assert (rejected.value.reason, rejected.value.check) == ("challenge", "challenge")


def test_nothing_is_accepted_without_a_configured_app_or_kind_or_root() -> None:
    for policy, reason in (
        (with_policy(apple_apps=()), "app"),
        (with_policy(kinds=frozenset({"android-key"})), "kind"),
    ):
        with pytest.raises(Rejected) as rejected:
            attested_by(statement(), expected(policy=policy))
        assert rejected.value.reason == reason
    for other in ((), TestRoot.memory().certificates):
        with pytest.raises(Rejected) as rejected:
            attested_by(statement(), expected(anchors=anchors(other)))
        assert rejected.value.reason == "root"


def test_an_app_that_is_not_configured_is_named_by_the_verifier_itself() -> None:
    """Its hash alone is in the object: without a name the policy could not apply to the credential later."""
    with pytest.raises(Rejected) as rejected:
        attested_by(statement(app="ABCDE12345.org.example.other"))
    assert (rejected.value.reason, rejected.value.check) == ("app", "app")


def test_a_mac_is_refused() -> None:
    """A Mac without System Integrity Protection runs a changed app, and its attestation looks the same but for this."""
    for system, accepted in (("iphoneos", True), ("macosx", False)):
        value = der.sequence(der.explicit(1026, der.octets(system.encode())))
        sent = statement(leaf_extensions=(der.extension("1.2.840.113635.100.8.7", value),))
        if accepted:
            attested_by(sent)
            continue
        with pytest.raises(Rejected) as rejected:
            attested_by(sent)
        assert (rejected.value.reason, rejected.value.check) == ("environment", "not_a_mac")


@pytest.mark.parametrize(
    ("seconds", "accepted"),
    [(-86400 - 300, True), (-86400 - 301, False), (48 * 3600 + 300, True), (48 * 3600 + 301, False)],
)
def test_the_clocks_of_apple_and_the_server_may_differ_by_five_minutes(seconds: int, accepted: bool) -> None:
    """The leaf is valid from a day before to two days after."""
    sent = statement(ca_not_after=NOW + 10 * 86400)
    if accepted:
        assert attested_by(sent, expected(now=NOW + seconds))
        return
    with pytest.raises(Rejected) as rejected:
        attested_by(sent, expected(now=NOW + seconds))
    assert rejected.value.reason == "chain"


def test_all_checks_are_listed_for_a_reader_also_when_one_fails() -> None:
    sent = AppleAttestation(object=statement(category=3, counter=1)["object"])
    found = list(verify(sent, expected()))
    assert [check.name for check in found] == [
        "object", "certificates", "root", "links", "dates", "challenge", "not_a_mac", "attested_key", "credential_id",
        "app", "counter", "aaguid",
    ]  # fmt: skip
    assert [check.name for check in found if not check.ok] == ["counter"]


# A renewal.


def test_an_assertion_renews_with_new_counter_and_category() -> None:
    sent = statement(assertion=True, assertion_counter=5, category=2)
    previous = attested_by(statement())
    found = attested_by(sent, expected("apple-assertion", previous=previous))
    assert (found.facts.counter, found.facts.category) == (5, 2)
    assert found == previous._replace(facts=found.facts)
    assert found.facts.app_attest_key == previous.facts.app_attest_key


def test_an_assertion_without_extensions_keeps_the_category() -> None:
    for extensions in ({"category": None}, {"category": None, "bundle_version": None}):
        assert attested_by(statement(assertion=True, **extensions)).facts.category == 4


def test_an_assertion_may_set_flags_without_the_data_that_they_announce() -> None:
    assert attested_by(statement(assertion=True, flags=0xC0))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"assertion_key": "other"}, "challenge"),
        ({"client_data_hash": bytes(32)}, "challenge"),
        ({"hashed_once": True}, "challenge"),
        ({"app": "ABCDE12345.org.example.other"}, "app"),
        ({"app": "ZZZZZ00000.org.example"}, "app"),
        ({"assertion_counter": 0}, "challenge"),
        ({"category": 3}, "environment"),
        ({"category": 1}, "environment"),
        ({"auth_data_trailing": b"\0"}, "malformed"),
        ({"extensions": cbor.encode({"other": 1})}, "malformed"),
        ({"more_members": 1}, "malformed"),
        ({"object_trailing": b"\0"}, "malformed"),
    ],
)
def test_a_forged_assertion_gets_the_reason_of_its_check(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        attested_by(statement(assertion=True, **fields))
    assert rejected.value.reason == reason


def test_the_counter_must_exceed_that_of_the_old_credential() -> None:
    previous = attested_by(statement(assertion=True, assertion_counter=5))
    for counter, accepted in ((4, False), (5, False), (6, True)):
        to = expected("apple-assertion", previous=previous)
        sent = statement(assertion=True, assertion_counter=counter)
        if accepted:
            assert attested_by(sent, to).facts.counter == 6
            continue
        with pytest.raises(Rejected) as rejected:
            attested_by(sent, to)
        assert (rejected.value.reason, rejected.value.check) == ("challenge", "counter")


def test_an_assertion_needs_a_credential_of_app_attest_with_its_key() -> None:
    good = attested_by(statement())
    for previous in (None, good._replace(kind="android-key"), good._replace(facts=type(good.facts)())):
        with pytest.raises(Rejected) as rejected:
            attested_by(statement(assertion=True), expected("apple-assertion", previous=previous))
        assert (rejected.value.reason, rejected.value.check) == ("kind", "previous_credential")


@pytest.mark.parametrize("content", [b"\xa0\xa0\xa0", b"\x81" * 3000, b"not cbor", cbor.encode({"signature": b""})])
def test_an_assertion_that_is_none_is_malformed(content: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        attested_by({"kind": "apple-assertion", "assertion": encode_base64(content)})
    assert rejected.value.reason == "malformed"


# Any bytes.

_SOUND = base64.b64decode(statement()["object"])
_AUTH_DATA = ApplePhone(ROOT, DEVICE.public, AppleFields()).auth_data()


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(_SOUND) - 1), st.binary(max_size=4)))
@settings(max_examples=400, deadline=None)
def test_no_object_raises_anything_but_rejected(change: bytes | tuple[int, bytes]) -> None:
    if isinstance(change, bytes):
        content = change
    else:
        at, replaced = change
        content = _SOUND[:at] + replaced + _SOUND[at + 1 :]
    sent = AppleAttestation(object=encode_base64(content))
    with contextlib.suppress(Rejected):
        # What is accepted proves the same: only the receipt, which is not read, can differ.
        assert run(verify(sent, expected())) == attested_by(statement())


@given(st.integers(0, len(_AUTH_DATA)), st.binary(max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_authenticator_data_raises_anything_but_cbor_error(at: int, replaced: bytes) -> None:
    for data in (_AUTH_DATA[:at], _AUTH_DATA[:at] + replaced + _AUTH_DATA[at + 1 :], replaced):
        for read in (authenticator_data.of_attestation, authenticator_data.of_assertion):
            try:
                read(data)
            except CborError:
                continue


def test_authenticator_data_of_each_length_up_to_its_end_is_refused() -> None:
    bare = ApplePhone(ROOT, DEVICE.public, AppleFields(category=None, bundle_version=None)).auth_data()
    assert len(bare) == 164
    assert authenticator_data.of_attestation(bare).head.category is None
    for end in range(len(bare)):
        with pytest.raises(CborError):
            authenticator_data.of_attestation(bare[:end])
    for end in range(37):
        with pytest.raises(CborError):
            authenticator_data.of_assertion(bare[:end])
    assert authenticator_data.of_assertion(bare[:37]).category is None


@pytest.mark.parametrize("at", [53, 54, *range(87, 97), *range(129, 132)])
def test_each_byte_of_the_form_of_the_key_counts(at: int) -> None:
    """The length of the credential, and a COSE key of P-256 around x and y."""
    authenticator_data.of_attestation(_AUTH_DATA)
    with pytest.raises(CborError, match="no credential of 32 bytes with a P-256 key"):
        authenticator_data.of_attestation(_AUTH_DATA[:at] + bytes([_AUTH_DATA[at] ^ 1]) + _AUTH_DATA[at + 1 :])


def test_an_object_at_its_limit_is_read_and_one_over_it_is_refused() -> None:
    # The lengths of signatures vary by a few bytes.
    fits = 40 * 1024 - len(_SOUND) - 20
    assert attested_by(statement(receipt=bytes(fits)))
    too_long = AppleAttestation(object=statement(receipt=bytes(fits + 40))["object"])
    with pytest.raises(Rejected) as rejected:
        run(verify(too_long, expected()))
    assert rejected.value.reason == "malformed"
