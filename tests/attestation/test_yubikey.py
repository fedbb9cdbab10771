"""YubiKeys: each check by one mutated field, which is refused for its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.attestation.certificates.roots import real_anchors
from sigil.attestation.statements import Checks, run
from sigil.attestation.yubikey import verify
from sigil.device.test_phone import der
from sigil.device.test_phone.certificates import (
    Authority,
    Certificate,
    ca_extension,
    new_key,
    p256,
)
from sigil.device.test_phone.yubikey import FIRMWARE, POLICY, YubiKey, YubiKeyFields
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.attestation import YubikeyAttestation
from tests.attestation.support import (
    ALL_KINDS,
    DEVICE,
    NOW,
    ROOT,
    digest_for,
    encoded,
    expected,
    failed,
    outcome,
    statement_of,
)


def _checks(context: dict[str, Any] | None = None, **fields: Any) -> Checks:
    phone = YubiKey(ROOT, DEVICE, YubiKeyFields(**{"now": NOW, **fields}))
    made = statement_of(phone.statement(digest_for))
    assert isinstance(made, YubikeyAttestation)
    return verify(made, expected(**(context or {})))


@pytest.mark.parametrize("with_root", [True, False])
def test_a_sound_yubikey_is_attested(with_root: bool) -> None:
    attested = run(_checks(with_root=with_root, leaf_serial=0xAB))
    assert attested[:4] == ("yubikey-piv", "secure_element", "direct", "")
    assert (attested.facts.firmware, attested.facts.user_auth) == ((5, 7, 1), True)
    assert attested.facts.serials[0] == "ab"
    assert len(attested.facts.serials) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"firmware": (5, 7, 0)},
        {"firmware": (6, 0, 0)},
        {"pin_policy": 3},
        {"pin_policy": 5},
        {"touch_policy": 3},
    ],
)
def test_what_real_yubikeys_differ_in_is_accepted(fields: dict[str, Any]) -> None:
    assert failed(_checks(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "reason", "check"),
    [
        ({"leaf_trailing": b"\0"}, "malformed", "certificates"),
        ({"extra": (b"0",)}, "malformed", "certificates"),
        ({"order": "reversed"}, "root", "root"),
        ({"root": "android-hardware"}, "root", "root"),
        ({"root": "apple-appattest"}, "root", "root"),
        ({"f9_broken_signature": True}, "root", "root"),
        ({"f9_issuer_name": der.name(("2.5.4.3", "another"))}, "root", "root"),
        ({"with_root": True, "f9_broken_signature": True}, "chain", "links"),
        ({"with_root": True, "f9_issuer_name": der.name(("2.5.4.3", "another"))}, "chain", "links"),
        ({"leaf_broken_signature": True}, "chain", "links"),
        ({"f9_ca": False}, "chain", "links"),
        ({"leaf_not_before": NOW + 301}, "chain", "dates"),
        ({"leaf_not_after": NOW - 301}, "chain", "dates"),
        ({"f9_not_after": NOW - 301}, "chain", "dates"),
        ({"with_firmware": False}, "malformed", "firmware"),
        ({"firmware_extension": b"\x05\x07"}, "malformed", "firmware"),
        ({"firmware_extension": b"\x04\x03\x05\x07\x01"}, "malformed", "firmware"),
        ({"firmware": (5, 6, 255)}, "patch", "firmware_minimum"),
        ({"firmware": (4, 9, 9)}, "patch", "firmware_minimum"),
        ({"policy": b"\x02"}, "malformed", "policy"),
        ({"policy": b"\x02\x02\x02"}, "malformed", "policy"),
        ({"policy": b"\x00\x02"}, "malformed", "policy"),
        ({"policy": b"\x02\x00"}, "malformed", "policy"),
        ({"pin_policy": 6}, "malformed", "policy"),
        ({"touch_policy": 4}, "malformed", "policy"),
        ({"with_policy": False}, "malformed", "policy"),
        ({"pin_policy": 1}, "key_properties", "pin_policy"),
        ({"touch_policy": 1}, "key_properties", "touch_policy"),
        ({"curve": "p384"}, "key_properties", "leaf_key"),
        ({"leaf_key": "other"}, "key_properties", "leaf_key"),
    ],
)  # fmt: skip
def test_one_wrong_field_is_refused_for_its_reason(fields: dict[str, Any], reason: str, check: str) -> None:
    assert failed(_checks(**fields))[0] == (reason, check)


def test_the_firmware_minimum_is_a_setting() -> None:
    policy = replace(ALL_KINDS, yubikey_min_firmware=(5, 4, 3))
    assert failed(_checks({"policy": policy}, firmware=(5, 4, 3))) == []
    assert failed(_checks({"policy": policy}, firmware=(5, 4, 2))) == [("patch", "firmware_minimum")]


def test_another_product_under_the_same_root_attests_no_piv_key() -> None:
    """A YubiHSM signs the extensions that its user's template has."""
    key = new_key()
    name = der.name(("2.5.4.3", "YubiHSM Attestation (1234567)"))
    issuer = Certificate(subject=name, public_key=key.public_key(), extensions=[ca_extension()])
    extensions = [der.extension(FIRMWARE, b"\x05\x07\x01"), der.extension(POLICY, b"\x02\x02")]
    leaf = Certificate(subject=name, public_key=p256(DEVICE.wire), extensions=extensions)
    chain = [leaf.issued(Authority(name, key), NOW), issuer.issued(ROOT.authority("yubikey-piv"), NOW)]
    statement = YubikeyAttestation(x5c=[encode_base64(each) for each in chain])
    assert failed(verify(statement, expected())) == [("chain", "issued_by_piv")]


def test_a_key_that_certifies_another_is_refused() -> None:
    """The attested key is its user's, who can sign a certificate with it."""
    key = new_key()
    subject = der.name(("2.5.4.3", "Yubico PIV Attestation"))
    f9_key = new_key()
    f9 = Certificate(subject=subject, public_key=f9_key.public_key(), extensions=[ca_extension()])
    target = Certificate(subject=subject, public_key=key.public_key())
    extensions = [der.extension(FIRMWARE, b"\x05\x07\x01"), der.extension(POLICY, b"\x02\x02")]
    forged = Certificate(subject=subject, public_key=p256(DEVICE.wire), extensions=extensions)
    chain = [
        forged.issued(Authority(subject, key), NOW),
        target.issued(Authority(subject, f9_key), NOW),
        f9.issued(ROOT.authority("yubikey-piv"), NOW),
    ]
    statement = YubikeyAttestation(x5c=[encode_base64(each) for each in chain])
    assert failed(verify(statement, expected())) == [("chain", "links")]


def test_an_anchor_does_not_attest_a_key_itself() -> None:
    roots = [encoded(each) for each in real_anchors().yubikey[:1]]
    statement = YubikeyAttestation(x5c=[encode_base64(each) for each in (*roots, *roots)])
    assert failed(verify(statement, expected())) == [("chain", "links")]


_CHAIN = YubiKey(ROOT, DEVICE, YubiKeyFields(now=NOW)).chain()


@given(st.integers(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_chain_with_one_changed_byte_is_refused_by_a_check(index: int, at: float, change: int) -> None:
    chain = [bytearray(each) for each in _CHAIN]
    chain[index][int(at * len(chain[index]))] ^= change
    statement = YubikeyAttestation(x5c=[encode_base64(bytes(each)) for each in chain])
    assert not all(check.ok for check in outcome(verify(statement, expected()))[1])
