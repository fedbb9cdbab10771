"""Verification of an attestation: it happens once per key and credential, not per approval."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TypeVar

import msgspec

from bench.measuring import Measure
from sigil.attestation.android.verify import verify as verify_android
from sigil.attestation.apple.assertion import verify as verify_assertion
from sigil.attestation.apple.verify import verify as verify_apple
from sigil.attestation.certificates.chain import read_certificate
from sigil.attestation.certificates.roots import anchors
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import Expected, run
from sigil.attestation.yubikey import verify as verify_yubikey
from sigil.device.test_phone.android import AndroidFields, AndroidPhone
from sigil.device.test_phone.apple import AppleFields, ApplePhone
from sigil.device.test_phone.roots import TestRoot
from sigil.device.test_phone.yubikey import YubiKey, YubiKeyFields
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import (
    AndroidAttestation,
    AppleAssertion,
    AppleAttestation,
    YubikeyAttestation,
)

_T = TypeVar("_T")
_NOW = 1_790_000_000
_ROOT = TestRoot.memory()
_DEVICE = PrivateKey.load("ES256", bytes([7]) * 32).public


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _expected() -> Expected:
    return Expected(
        _digest, _DEVICE, _NOW, AttestationPolicy(apple_apps=(AppleFields().app,)), anchors(_ROOT.certificates)
    )


def _android() -> AndroidPhone:
    return AndroidPhone(_ROOT, _DEVICE, AndroidFields(now=_NOW))


def test_read_a_certificate(measure: Measure) -> None:
    leaf = _android().chain(_digest(""))[0]
    measure(partial(read_certificate, leaf))


def test_verify_a_new_android_chain(measure: Measure) -> None:
    """Four certificates, of which a root with P-384 issued one."""
    statement = msgspec.convert(_android().statement(lambda _kind, key: _digest(key)), AndroidAttestation)
    expected = _expected()
    measure(lambda: run(verify_android(statement, expected)))


def test_verify_a_new_yubikey_chain(measure: Measure) -> None:
    phone = YubiKey(_ROOT, _DEVICE, YubiKeyFields(now=_NOW))
    statement = msgspec.convert(phone.statement(lambda _kind, key: _digest(key)), YubikeyAttestation)
    expected = _expected()
    measure(lambda: run(verify_yubikey(statement, expected)))


def test_verify_a_new_app_attest_object(measure: Measure) -> None:
    """Issuers with P-384 signed both certificates."""
    statement = _app_attest(AppleFields(now=_NOW), AppleAttestation)
    expected = _expected()
    measure(lambda: run(verify_apple(statement, expected)))


def test_verify_an_assertion(measure: Measure) -> None:
    statement = _app_attest(AppleFields(now=_NOW, assertion=True), AppleAssertion)
    attested = run(verify_apple(_app_attest(AppleFields(now=_NOW), AppleAttestation), _expected()))
    expected = _expected()._replace(previous=attested)
    measure(lambda: run(verify_assertion(statement, expected)))


def _app_attest(fields: AppleFields, kind: type[_T]) -> _T:
    return msgspec.convert(ApplePhone(_ROOT, _DEVICE, fields).statement(lambda _kind, key: _digest(key)), kind)
