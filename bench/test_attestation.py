"""Verification of an attestation: it happens once per key and credential, not per approval."""

from __future__ import annotations

import hashlib
from functools import partial

import msgspec

from bench.measuring import Measure
from sigil.attestation.android.verify import verify as verify_android
from sigil.attestation.chain import read_certificate
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.roots import anchors
from sigil.attestation.statements import Expected, run
from sigil.attestation.yubikey import verify as verify_yubikey
from sigil.device.test_phone.android import AndroidFields, AndroidPhone
from sigil.device.test_phone.roots import TestRoot
from sigil.device.test_phone.yubikey import YubiKey, YubiKeyFields
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import AndroidAttestation, YubikeyAttestation

_NOW = 1_790_000_000
_ROOT = TestRoot.memory()
_DEVICE = PrivateKey.load("ES256", bytes([7]) * 32).public


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _expected() -> Expected:
    return Expected(_digest, _DEVICE, _NOW, AttestationPolicy(), anchors(_ROOT.certificates))


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
