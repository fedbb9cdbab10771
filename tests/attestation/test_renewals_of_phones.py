"""The service with its real verifiers: what a renewal may change, and credentials of a root that was for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from sigil.attestation.certificates.roots import anchors
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.service import Attestation
from sigil.attestation.verify import verifiers
from sigil.device.test_phone import phones
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol import signed_bytes
from sigil.protocol.device_credential import parse
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import AttestationInvalid
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import AttestDevice
from tests.attestation.examples import POLICY
from tests.attestation.support import DEVICE, NOW, ROOT
from tests.support.services import IDENTITY

KEY = PrivateKey.load("ES256", bytes([7]) * 32)
OF_TESTS = replace(POLICY, test_roots=ROOT.certificates)
RENEWALS: dict[str, dict[str, Any]] = {"android": {"witness": True}, "apple": {"assertion": True}, "yubikey": {}}


def service(policy: AttestationPolicy = OF_TESTS) -> Attestation:
    return Attestation(
        IDENTITY,
        policy,
        verifiers=verifiers(),
        anchors=anchors(policy.test_roots),
        clock=lambda: NOW,
        randomness=bytes,
    )


def attest(server: Attestation, name: str, previous: str | None = None, root: TestRoot = ROOT, **forged: object) -> str:
    """The credential that the server issues. AttestationInvalid."""
    challenge = server.challenge()
    nonce = decode_base64(challenge.nonce, "$")

    def digest(kind: str, key: str) -> bytes:
        return signed_bytes.attest_digest(context="", key=key, kind=kind, nonce=nonce, server_id=IDENTITY.server_id)

    statement = phones.phone(name, root, DEVICE, now=NOW, **forged).statement(digest)
    key = encode_base64(DEVICE.wire) if name == "apple" or forged.get("witness") else ""
    proof = signed_bytes.attestation_proof(digest(statement["kind"], key), canonical(statement))
    body = {
        "device_public_key": encode_base64(DEVICE.wire),
        "challenge_id": challenge.challenge_id,
        "attestation": statement,
        "signature": encode_base64(KEY.sign(proof)),
    } | ({"device_credential": previous} if previous else {})
    return server.attest(server.open(msgspec.convert(body, AttestDevice))).device_credential


def reason(refused: pytest.ExceptionInfo[AttestationInvalid]) -> str:
    return str(refused.value.details["reason"])


def test_an_app_that_was_signed_again_does_not_renew() -> None:
    """iOS states in each assertion how the app is signed: a changed copy of it is no longer of the App Store."""
    server = service()
    first = attest(server, "apple", category=4)
    for category in (1, 3, 5):
        with pytest.raises(AttestationInvalid) as refused:
            attest(server, "apple", first, assertion=True, category=category)
        assert reason(refused) == "environment"
    renewed = attest(server, "apple", first, assertion=True, category=2)
    assert parse(renewed).facts.category == 2
    assert parse(attest(server, "apple", first, assertion=True, category=None)).facts.category == 4


@pytest.mark.parametrize("name", phones.NAMES)
def test_a_credential_of_a_test_root_ends_with_that_root(name: str) -> None:
    """The holder of a test root can forge any device. A host with the same words that no longer lists it, or requires
    attestation now, takes none of its credentials and renews none.
    """
    with_root, without = service(), service(replace(OF_TESTS, test_roots=()))
    other = service(replace(OF_TESTS, test_roots=TestRoot.memory().certificates))
    first = attest(with_root, name)
    credentials = [first, attest(with_root, name, first, **RENEWALS[name])]
    for credential in credentials:
        assert with_root.check(DEVICE, credential) is not None
        for server in (without, other):
            with pytest.raises(AttestationInvalid) as refused:
                server.check(DEVICE, credential)
            assert reason(refused) == "root"
            if RENEWALS[name]:
                later = {"assertion_counter": 2**31} if name == "apple" else {}
                with pytest.raises(AttestationInvalid) as refused:
                    attest(server, name, credential, **RENEWALS[name], **later)
                assert reason(refused) == "root"


def test_a_renewal_under_another_root_keeps_the_first() -> None:
    second = TestRoot.memory()
    both = service(replace(OF_TESTS, test_roots=ROOT.certificates + second.certificates))
    renewed = attest(both, "android", attest(both, "android"), root=second, witness=True)
    assert both.check(DEVICE, renewed) is not None
    for only in (ROOT, second):
        with pytest.raises(AttestationInvalid) as refused:
            service(replace(OF_TESTS, test_roots=only.certificates)).check(DEVICE, renewed)
        assert reason(refused) == "root"
