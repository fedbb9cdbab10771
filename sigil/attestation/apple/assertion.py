"""Verifies an assertion of App Attest, which renews the credential of a key that Apple attested. No call to Apple."""

from __future__ import annotations

import hashlib

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.attestation.apple import authenticator_data
from sigil.attestation.encoding import cbor
from sigil.attestation.encoding.cbor import CborError
from sigil.attestation.statements import Check, Checks, Expected, Rejected
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.attestation import AppleAssertion


def verify(statement: AppleAssertion, expected: Expected) -> Checks:
    """Raises Rejected itself where a check failed whose result the next ones need."""
    previous = expected.previous
    if previous is None or previous.kind != "apple-appattest" or previous.facts.app_attest_key is None:
        yield Check("previous_credential", False, "kind", "an assertion renews a credential of apple-appattest")
        raise Rejected("kind", "previous_credential")
    try:
        signature, auth_data = _parts(decode_base64(statement.assertion, "assertion"))
        head = authenticator_data.of_assertion(auth_data)
    except (CborError, InvalidRequest) as error:
        yield Check("assertion", False, "malformed", str(error))
        raise Rejected("malformed", "assertion") from error
    yield Check("assertion", True, "malformed", f"{len(auth_data)} bytes of authenticator data")
    nonce = hashlib.sha256(auth_data + expected.digest(encode_base64(expected.device_key.wire))).digest()
    yield Check("signature", _signed(previous.facts.app_attest_key, nonce, signature), "challenge")
    yield Check("app", hashlib.sha256(previous.app.encode()).digest() == head.rp_id_hash, "app", previous.app)
    # The credential is the only memory: an older one of the same key starts from its own counter.
    rising = head.counter > (previous.facts.counter or 0)
    yield Check("counter", rising, "challenge", f"{head.counter} after {previous.facts.counter}")
    category = previous.facts.category if head.category is None else head.category
    return previous._replace(facts=msgspec.structs.replace(previous.facts, counter=head.counter, category=category))


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The signature and the authenticator data. Raises CborError."""
    match cbor.decode(data):
        case {"signature": bytes(signature), "authenticatorData": bytes(auth_data), **rest} if not rest:
            return signature, auth_data
    raise CborError("is no assertion of App Attest")


def _signed(key: str, nonce: bytes, signature: bytes) -> bool:
    """Apple signs the nonce as a message: it is hashed again."""
    try:
        point = decode_base64(key, "app_attest_key", length=33)
        public_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        public_key.verify(signature, nonce, ec.ECDSA(hashes.SHA256()))
    except (InvalidRequest, ValueError, InvalidSignature):
        return False
    return True
