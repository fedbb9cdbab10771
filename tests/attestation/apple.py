"""A sound iPhone and what a server expects of it, for the tests of App Attest."""

from __future__ import annotations

from typing import Any

import msgspec

from sigil.attestation.apple import assertion
from sigil.attestation.apple.verify import verify
from sigil.attestation.certificates.roots import anchors
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import check_attested
from sigil.attestation.statements import Attested, Expected, run
from sigil.device.software import Device
from sigil.device.test_phone.phones import phone
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.messages.attestation import AppleAssertion, AppleAttestation

NOW = 1_796_000_000
APP = "ABCDE12345.org.example.sigil"
ROOT = TestRoot.memory()
DEVICE = Device.generate("Ed25519")
NONCE = bytes(range(32))
POLICY = AttestationPolicy(
    kinds=frozenset({"apple-appattest"}), apple_apps=("ZZZZZ00000.org.example", APP), test_roots=ROOT.certificates
)


def digest_for(kind: str, key: str, context: str = "", nonce: bytes = NONCE) -> bytes:
    return signed_bytes.attest_digest(context=context, key=key, kind=kind, nonce=nonce, server_id="a" * 64)


def expected(kind: str = "apple-appattest", **changes: Any) -> Expected:
    found = Expected(
        digest=lambda key: digest_for(kind, key),
        device_key=DEVICE.public,
        now=NOW,
        policy=POLICY,
        anchors=anchors(ROOT.certificates),
    )
    return found._replace(**changes)


def statement(**fields: Any) -> dict[str, Any]:
    return phone("apple", ROOT, DEVICE.public, now=NOW, **fields).statement(digest_for)


def attested_by(sent: dict[str, Any], to: Expected | None = None) -> Attested:
    """What the statement proves, with the policy applied. Rejected."""
    if sent["kind"] == "apple-assertion":
        to = to or expected("apple-assertion", previous=attested_by(statement()))
        found = run(assertion.verify(msgspec.convert(sent, AppleAssertion), to))
    else:
        to = to or expected()
        found = run(verify(msgspec.convert(sent, AppleAttestation), to))
    check_attested(found, to.policy, lambda _serial: False)
    return found


def auth_data_of(sent: dict[str, Any]) -> bytes:
    return decode_base64(sent["object"], "object")
