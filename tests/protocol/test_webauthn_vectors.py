"""The vectors of web devices' signatures, and fido2 as an oracle: another implementation of the same standard."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, get_args

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from fido2.cose import ES256
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorAssertionResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    UserVerificationRequirement,
)

from sigil.protocol import webauthn
from sigil.protocol.encoding.text import encode_base64url
from sigil.protocol.keys import PublicKey, WebAuthnPublicKey

from .vectors import Case, cases

CASES = cases("webauthn.json")
CREDENTIAL = b"credential"
# What fido2 does not check, and this protocol does. Of the challenge: its spelling.
STRICTER = {
    "challenge",
    "attested_credential",
    "backup_state",
    "client_data",
    "cross_origin",
    "local_signature",
    "origin",
    "top_origin",
}


def _parsed(case: Case) -> tuple[WebAuthnPublicKey, bytes, bytes]:
    key = PublicKey.parse(bytes.fromhex(case["public_key"]))
    assert isinstance(key, WebAuthnPublicKey)
    return key, bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])


def test_every_signature_is_accepted_or_rejected_for_its_reason() -> None:
    wrong = {}
    for case in CASES:
        key, message, signature = _parsed(case)
        got = (key.verify(message, signature), key.refusal(message, signature))
        if got != (case["expect"], case.get("reason")):
            wrong[case["name"]] = got
    assert wrong == {}


def test_every_reason_has_a_vector() -> None:
    assert {case["reason"] for case in CASES if "reason" in case} == set(get_args(webauthn.Reason))


def test_an_accepted_signature_has_a_normal_form_and_facts() -> None:
    for case in CASES:
        if not case["expect"]:
            continue
        key, message, signature = _parsed(case)
        stored = key.normalised(signature)
        assert key.verify(message, stored), case["name"]
        assert key.normalised(stored) == stored
        assert (stored == signature) is not ("high s" in case["name"] or "upper half" in case["name"]), case["name"]
        facts = key.user_verification(stored)
        assert (facts is None) is (len(signature) == 64)
        if "user_verification" in case:
            assert facts == webauthn.UserVerification(**case["user_verification"])


def _oracle(key: WebAuthnPublicKey, message: bytes, signature: bytes) -> str | None:
    """The fault that fido2 finds in the assertion; it knows nothing of the local half."""
    try:
        parts = webauthn.split(signature)
    except webauthn.AssertionRefused as error:
        return str(error)
    try:
        client_data = CollectedClientData(parts.client_data)
        rp = PublicKeyCredentialRpEntity(name="", id=_host(client_data.origin))
        server = Fido2Server(
            rp,
            verify_origin=lambda origin: webauthn.origin_sha256(str(origin)) == key.origin_sha256,
        )
        r, s = (int.from_bytes(parts.assertion[at : at + 32]) for at in (0, 32))
        challenge = sha256(message + sha256(key.wire).digest()).digest()
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.assertion_key.wire)
        server.authenticate_complete(
            {"challenge": encode_base64url(challenge), "user_verification": UserVerificationRequirement.REQUIRED},
            [AttestedCredentialData.create(bytes(16), CREDENTIAL, ES256.from_cryptography_key(public))],
            AuthenticationResponse(
                raw_id=CREDENTIAL,
                response=AuthenticatorAssertionResponse(
                    client_data=client_data,
                    authenticator_data=AuthenticatorData(parts.authenticator_data),
                    signature=encode_dss_signature(r, s),
                ),
                type=PublicKeyCredentialType.PUBLIC_KEY,
            ),
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _host(origin: Any) -> str:
    return str(origin).split("://")[-1].split(":")[0]


def test_fido2_agrees() -> None:
    """What is accepted here, fido2 accepts. What fido2 rejects is rejected here; the rest is stricter here by name."""
    asserted = [case for case in CASES if len(case["signature"]) != 128]
    stricter = set()
    for case in asserted:
        key, message, signature = _parsed(case)
        if not webauthn.needs_both_halves(message):
            continue
        fault = _oracle(key, message, signature)
        name = f"{case['name']}: {fault}"
        if case["expect"]:
            assert fault is None, name
        elif fault is None:
            assert case["reason"] in STRICTER, name
            stricter.add(case["reason"])
    assert stricter == STRICTER
