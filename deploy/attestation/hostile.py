"""Hostile attestations by name: what each forges, and the reason that a server gives.

A row per check and per fault that another verifier had. The statements are of the test phone under a test root; each
differs from a sound one in one place.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sigil.device.attestation import DigestFor
from sigil.device.test_phone import cbor, der, phones
from sigil.device.test_phone.cbor import Raw, head
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.keys import PublicKey

Statement = dict[str, Any]
DAY = 86400
PAST = 1_600_000_000
"""A `not_after` that every clock of a test has passed."""


@dataclass(frozen=True)
class Case:
    """`reason` is `details.reason` of ATTESTATION_INVALID; empty: the request itself is not of the documented form.

    other_root: minted under a root that no server has. change: done to the finished statement.
    """

    phone: str
    reason: str
    fields: dict[str, object] = field(default_factory=dict)
    change: Callable[[Statement], Statement] = lambda statement: statement
    other_root: bool = False

    def statement(self, root: TestRoot, device: PublicKey, digest_for: DigestFor, **more: object) -> Statement:
        signer = TestRoot.memory() if self.other_root else root
        return self.change(phones.phone(self.phone, signer, device, **(self.fields | more)).statement(digest_for))


def _x5c(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Statement], Statement]:
    def changed(statement: Statement) -> Statement:
        chain = [base64.b64decode(text) for text in statement["x5c"]]
        return statement | {"x5c": [base64.b64encode(certificate).decode() for certificate in change(chain)]}

    return changed


def _object(content: bytes) -> Callable[[Statement], Statement]:
    return lambda statement: statement | {"object": base64.b64encode(content).decode()}


def _object_changed(change: Callable[[bytes], bytes]) -> Callable[[Statement], Statement]:
    return lambda statement: _object(change(base64.b64decode(statement["object"])))(statement)


def _nested(count: int) -> bytes:
    """DER, a sequence in a sequence …"""
    content = b""
    for _ in range(count):
        content = der.sequence(content)
    return content


# Tag 28 marks a value as shared and tag 29 refers to it: a list that contains itself (value-sharing of CBOR).
_CATEGORY = "apple_validation_category_01"
_FAR = 4_000_000_000
_CYCLE = Raw(b"\xd8\x1c\x81\xd8\x1d\x00")

APPLE = {
    # The object.
    "apple-not-cbor": Case("apple", "malformed", change=_object(b"\xff\xff\xff\xff")),
    "apple-deep": Case("apple", "malformed", change=_object(b"\x81" * 30_000 + b"\x00")),
    "apple-deep-map": Case("apple", "malformed", change=_object(b"\xa1\x00" * 15_000 + b"\x00")),
    "apple-cycle": Case(
        "apple", "malformed", change=_object(cbor.encode({"fmt": "x", "attStmt": _CYCLE, "authData": b""}))
    ),
    "apple-huge-length": Case("apple", "malformed", change=_object(head(5, 1) + b"\x5b" + b"\xff" * 8)),
    "apple-huge-list": Case("apple", "malformed", change=_object(b"\x9b" + b"\x7f" * 8)),
    "apple-indefinite": Case("apple", "malformed", change=_object_changed(lambda data: b"\xbf" + data[1:] + b"\xff")),
    "apple-duplicate-key": Case(
        "apple", "malformed", change=_object_changed(lambda data: b"\xa4" + data[1:] + cbor.encode("fmt") + data[5:21])
    ),
    "apple-long-form": Case("apple", "malformed", change=_object_changed(lambda data: b"\xb8\x03" + data[1:])),
    "apple-trailing": Case("apple", "malformed", {"object_trailing": b"\x00"}),
    "apple-more-members": Case("apple", "malformed", {"more_members": 1}),
    "apple-truncated": Case("apple", "malformed", change=_object_changed(lambda data: data[:-1])),
    "apple-empty": Case("apple", "malformed", change=_object(b"\xa0\xa0\xa0")),
    "apple-other-format": Case("apple", "malformed", {"fmt": "packed"}),
    # The chain.
    "apple-other-root": Case("apple", "root", other_root=True),
    "apple-root-of-android": Case("apple", "root", {"root": "android-hardware"}),
    "apple-reversed": Case("apple", "root", {"order": "reversed"}),
    "apple-third-certificate": Case("apple", "malformed", {"extra": (b"0",)}),
    "apple-root-sent": Case("apple", "malformed", {"with_root": True}),
    "apple-leaf-of-the-root": Case("apple", "root", {"without_ca": True}),
    "apple-leaf-trailing": Case("apple", "malformed", {"leaf_trailing": b"\x00"}),
    "apple-leaf-unsigned": Case("apple", "chain", {"leaf_broken_signature": True}),
    "apple-leaf-expired": Case("apple", "chain", {"leaf_not_after": PAST}),
    "apple-leaf-of-tomorrow": Case("apple", "chain", {"leaf_not_before": _FAR, "leaf_not_after": _FAR + DAY}),
    "apple-ca-unsigned": Case("apple", "root", {"ca_broken_signature": True}),
    "apple-ca-expired": Case("apple", "chain", {"ca_not_after": PAST}),
    "apple-ca-is-no-ca": Case("apple", "chain", {"ca_is_ca": False}),
    "apple-ca-of-another-name": Case("apple", "root", {"ca_issuer_name": der.name(("2.5.4.3", "Other"))}),
    # The nonce.
    "apple-other-challenge": Case("apple", "challenge", {"client_data_hash": bytes(32)}),
    "apple-other-nonce": Case("apple", "challenge", {"nonce": bytes(32)}),
    "apple-nonce-not-der": Case("apple", "challenge", {"nonce_extension": b"\x30\x80\x00\x00"}),
    "apple-nonce-short": Case("apple", "challenge", {"nonce": bytes(31)}),
    "apple-nonce-twice": Case("apple", "malformed", {"nonce_twice": True}),
    # The authenticator data.
    "apple-other-key": Case("apple", "key_properties", {"leaf_key": "other"}),
    "apple-other-credential-id": Case("apple", "key_properties", {"credential_id": bytes(32)}),
    "apple-credential-id-length": Case("apple", "malformed", {"credential_id": bytes(16)}),
    "apple-credential-id-length-lies": Case("apple", "malformed", {"credential_id_length": 33}),
    "apple-other-app": Case("apple", "app", {"app": "ABCDE12345.org.example.other"}),
    "apple-app-prefix": Case("apple", "app", {"app": "ABCDE12345.org.example.sigil2"}),
    "apple-other-team": Case("apple", "app", {"app": "ZYXWV98765.org.example.sigil"}),
    "apple-counter": Case("apple", "key_properties", {"counter": 1}),
    "apple-development": Case("apple", "environment", {"environment": "development"}),
    "apple-other-aaguid": Case("apple", "environment", {"aaguid": bytes(16)}),
    "apple-platform": Case("apple", "environment", {"category": 1}),
    "apple-development-signed": Case("apple", "environment", {"category": 3}),
    "apple-enterprise": Case("apple", "environment", {"category": 5}),
    "apple-unknown-category": Case("apple", "environment", {"category": 4_000_000_000}),
    "apple-category-as-number": Case("apple", "malformed", {"extensions": cbor.encode({_CATEGORY: 4})}),
    "apple-category-short": Case("apple", "malformed", {"extensions": cbor.encode({_CATEGORY: b"\x04"})}),
    "apple-unknown-extension": Case("apple", "malformed", {"extensions": cbor.encode({"other": 1})}),
    "apple-two-extensions": Case("apple", "malformed", {"auth_data_trailing": b"\xa0"}),
    "apple-extension-not-cbor": Case("apple", "malformed", {"extensions": b"\xff"}),
    "apple-cose-key": Case("apple", "malformed", {"cose_key": bytes(77)}),
    # An assertion without a credential to renew.
    "apple-assertion-alone": Case("apple", "kind", {"assertion": True}),
}

ANDROID = {
    "android-other-root": Case("android", "root", other_root=True),
    "android-root-of-apple": Case("android", "root", change=_x5c(lambda chain: chain[:-1][:2])),
    "android-emulator": Case("android", "emulator", {"root": "software", "level": "software"}),
    "android-emulator-says-strongbox": Case("android", "emulator", {"root": "software", "level": "secure_element"}),
    "android-leaf-unsigned": Case("android", "chain", {"leaf_broken_signature": True}),
    "android-leaf-trailing": Case("android", "malformed", {"leaf_trailing": b"\x00"}),
    "android-batch-unsigned": Case("android", "chain", {"batch_broken_signature": True}),
    "android-batch-expired": Case("android", "chain", {"batch_not_after": PAST}),
    "android-batch-is-no-ca": Case("android", "chain", {"batch_ca": False}),
    "android-batch-of-another-name": Case("android", "chain", {"batch_issuer_name": der.name(("2.5.4.3", "Other"))}),
    "android-reversed": Case("android", "root", {"order": "reversed"}),
    "android-after-target": Case("android", "chain", {"after_target": True}),
    "android-description-in-issuer": Case("android", "chain", {"batch_key_description": True}),
    "android-description-deep": Case("android", "malformed", {"key_description": _nested(2000)}),
    "android-description-indefinite": Case("android", "malformed", {"key_description": b"\x30\x80\x00\x00"}),
    "android-description-trailing": Case("android", "malformed", {"key_description_trailing": b"\x00"}),
    "android-description-length": Case("android", "malformed", {"key_description": b"\x30\x84\xff\xff\xff\xff"}),
    "android-other-challenge": Case("android", "challenge", {"challenge": bytes(32)}),
    "android-software-level": Case("android", "level", {"level": "software"}),
    "android-keymint-software": Case("android", "level", {"keymint_level": "software"}),
    "android-strongbox-of-tee": Case("android", "level", {"level": "secure_element", "chain_level": "TEE"}),
    "android-factory-strongbox-of-tee": Case(
        "android", "level", {"chain": "factory", "level": "secure_element", "chain_level": "TEE"}
    ),
    "android-imported-key": Case("android", "key_properties", {"origin": 2}),
    "android-origin-by-software": Case("android", "key_properties", {"software": ("origin",)}),
    "android-purpose-decrypt": Case("android", "key_properties", {"purposes": (1, 2)}),
    "android-purpose-verify-alone": Case("android", "key_properties", {"purposes": (3,)}),
    "android-rsa": Case("android", "key_properties", {"algorithm": 1}),
    "android-p384": Case("android", "key_properties", {"curve": 2}),
    "android-sha1": Case("android", "key_properties", {"digests": (2,)}),
    "android-all-applications": Case("android", "key_properties", {"all_applications": True}),
    "android-unlocked": Case("android", "boot_state", {"locked": b"\x00"}),
    "android-self-signed-boot": Case("android", "boot_state", {"boot_state": 1}),
    "android-unverified-boot": Case("android", "boot_state", {"boot_state": 2}),
    "android-boot-by-software": Case("android", "boot_state", {"software": ("root_of_trust",)}),
    "android-no-root-of-trust": Case("android", "boot_state", {"root_of_trust": False}),
    "android-other-package": Case("android", "app", {"package": "org.example.other"}),
    "android-other-signer": Case("android", "app", {"signers": (bytes(32),)}),
    "android-two-packages": Case("android", "app", {"more_packages": ("org.example.other",)}),
    "android-two-signers": Case("android", "app", {"signers": (bytes(range(32)), bytes(32))}),
    "android-unknown-application": Case("android", "app_unknown", {"package": "UnknownApplication", "signers": ()}),
    "android-other-key": Case("android", "key_properties", {"leaf_key": "other"}),
    "android-one-certificate": Case("android", "", change=_x5c(lambda chain: chain[:1])),
    "android-eleven-certificates": Case("android", "", change=_x5c(lambda chain: [*chain, *[chain[-1]] * 7])),
    "android-long-certificate": Case("android", "", change=_x5c(lambda chain: [chain[0] + bytes(9000), *chain[1:]])),
    "android-gap": Case("android", "chain", change=_x5c(lambda chain: [chain[0], *chain[2:]])),
    "android-cycle": Case("android", "chain", change=_x5c(lambda chain: [*chain[:3], *chain[:3], chain[3]])),
}

YUBIKEY = {
    "yubikey-other-root": Case("yubikey", "root", other_root=True),
    "yubikey-root-of-android": Case("yubikey", "root", {"root": "android-hardware"}),
    "yubikey-leaf-unsigned": Case("yubikey", "chain", {"leaf_broken_signature": True}),
    "yubikey-leaf-trailing": Case("yubikey", "malformed", {"leaf_trailing": b"\x00"}),
    "yubikey-f9-is-no-ca": Case("yubikey", "chain", {"f9_ca": False}),
    "yubikey-old-firmware": Case("yubikey", "patch", {"firmware": (5, 6, 9)}),
    "yubikey-firmware-short": Case("yubikey", "malformed", {"firmware_extension": b"\x05"}),
    "yubikey-no-firmware": Case("yubikey", "malformed", {"with_firmware": False}),
    "yubikey-no-pin": Case("yubikey", "key_properties", {"pin_policy": 1}),
    "yubikey-no-touch": Case("yubikey", "key_properties", {"touch_policy": 1}),
    "yubikey-no-policy": Case("yubikey", "malformed", {"with_policy": False}),
    "yubikey-p384": Case("yubikey", "key_properties", {"curve": "p384"}),
    "yubikey-other-key": Case("yubikey", "key_properties", {"leaf_key": "other"}),
}

CASES = APPLE | ANDROID | YUBIKEY
