"""Verifies an attestation object of App Attest, in the order of Apple's "Validating apps that connect to your server".

The object proves that an app with a configured App ID, on Apple's hardware, made a key in the Secure Enclave and had
Apple certify it over `attest_digest`. That digest names the device's key, so the app vouches for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Literal

from sigil.attestation.apple import authenticator_data
from sigil.attestation.apple.authenticator_data import AttestedKey
from sigil.attestation.certificates.chain import Certificate, anchored, linking, p256_wire, reading, test_roots
from sigil.attestation.encoding import cbor
from sigil.attestation.encoding.cbor import CborError
from sigil.attestation.encoding.der import oid
from sigil.attestation.statements import Attested, Check, Checks, Expected, Facts, Rejected
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.attestation import MAX_STATEMENT, AppleAttestation

_NONCE = oid("1.2.840.113635.100.8.2")
_BEFORE_NONCE = bytes.fromhex("3024a1220420")
"""SEQUENCE { [1] { OCTET STRING of 32 bytes } }: the one form that Apple writes."""
_OPERATING_SYSTEM = oid("1.2.840.113635.100.8.7")
_ENVIRONMENTS: dict[bytes, Literal["production", "development"]] = {
    b"appattest".ljust(16, b"\0"): "production",
    b"appattestdevelop": "development",
}


def verify(statement: AppleAttestation, expected: Expected) -> Checks:
    """Raises Rejected itself where a check failed whose result the next ones need."""
    try:
        x5c, auth_data = _parts(decode_base64(statement.object, "$.attestation.object"))
        attested = authenticator_data.of_attestation(auth_data)
    except (CborError, InvalidRequest) as error:
        yield Check("object", False, "malformed", str(error))
        raise Rejected("malformed", "object") from error
    yield Check("object", True, "malformed", f"{len(auth_data)} bytes of authenticator data")
    chain = yield from reading(x5c)
    roots = yield from _chain(chain, expected)

    leaf, key = chain[0], p256_wire(chain[0].spki)
    digest = expected.digest(encode_base64(expected.device_key.wire))
    nonce = _BEFORE_NONCE + hashlib.sha256(auth_data + digest).digest()
    yield Check("challenge", leaf.extensions.get(_NONCE) == nonce, "challenge")
    # A Mac may run a changed app, without System Integrity Protection. Sigil has no use for Macs: none is accepted.
    yield Check("not_a_mac", b"macosx" not in leaf.extensions.get(_OPERATING_SYSTEM, b""), "environment")
    same = key is not None and leaf.spki.endswith(attested.point)
    yield Check("attested_key", same, "key_properties")
    key_id = hashlib.sha256(b"\x04" + attested.point).digest()
    yield Check("credential_id", key_id == attested.credential_id, "key_properties")
    return (yield from _app(attested, key or b"", roots, expected))


def _parts(data: bytes) -> tuple[list[bytes], bytes]:
    """x5c and the authenticator data. Raises CborError."""
    if len(data) > MAX_STATEMENT:
        raise CborError(f"has more than {MAX_STATEMENT} bytes")
    match cbor.decode(data):
        case {
            "fmt": "apple-appattest",
            "attStmt": {"x5c": [bytes(leaf), bytes(issuer)], "receipt": bytes(), **more},
            "authData": bytes(auth_data),
            **others,
        } if not more and not others:
            return [leaf, issuer], auth_data
    raise CborError("is no attestation object of App Attest")


def _chain(chain: tuple[Certificate, ...], expected: Expected) -> Generator[Check, None, tuple[str, ...]]:
    """Leaf, one CA, and the pinned root. Key purposes are ignored: Apple changed them in January 2026."""
    walk = anchored(chain, expected.anchors.apple)
    # The root issues no leaf: a chain that sends it has no CA.
    anchor = walk is not None and len(walk.certificates) == 2
    yield Check("root", anchor, "root")
    if walk is None or not anchor:
        raise Rejected("root", "root")
    yield from linking(walk)
    yield Check("dates", all(each.valid(expected.now) for each in walk.certificates), "chain")
    return test_roots(walk, expected.policy.test_roots)


def _app(attested: AttestedKey, key: bytes, roots: tuple[str, ...], expected: Expected) -> Checks:
    """Which app made the key, and where it came from. The policy on both is applied to the facts."""
    apps = {hashlib.sha256(app.encode()).digest(): app for app in expected.policy.apple_apps}
    app = apps.get(attested.head.rp_id_hash)
    yield Check("app", app is not None, "app", app or "")
    yield Check("counter", attested.head.counter == 0, "key_properties", str(attested.head.counter))
    environment = _ENVIRONMENTS.get(attested.aaguid)
    yield Check("aaguid", environment is not None, "environment", environment or "")
    facts = Facts(
        environment=environment,
        category=attested.head.category,
        app_attest_key=encode_base64(key),
        counter=0,
        test_roots=roots,
    )
    return Attested("apple-appattest", "hardware", "witness", app or "", facts)
