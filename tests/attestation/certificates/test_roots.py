"""The anchors that ship are those of the table of roots/README.md, and no others."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sigil.attestation.certificates.roots import anchors, real_anchors
from sigil.attestation.statements import Anchors
from sigil.device.test_phone.roots import TestRoot

_TABLE = (files("sigil.attestation.certificates") / "roots" / "README.md").read_text(encoding="utf-8")


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_the_files_hold_the_certificates_of_the_table_in_its_order() -> None:
    listed = re.findall(r"^\| `(\w+)\.pem` .*`([0-9a-f]{64})` \|$", _TABLE, re.MULTILINE)
    found = [
        (kind, certificate.fingerprint(hashes.SHA256()).hex())
        for kind in ("android", "android_software", "apple", "yubikey")
        for certificate in getattr(real_anchors(), kind)
    ]
    assert found == listed


def test_every_root_is_a_ca_and_signed_by_itself_but_the_intermediates_of_yubico() -> None:
    for kind in Anchors._fields:
        for certificate in getattr(real_anchors(), kind):
            assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            if certificate.subject == certificate.issuer:
                certificate.verify_directly_issued_by(certificate)
            else:
                assert certificate.subject.rfc4514_string().startswith("CN=Yubico PIV Attestation")


def test_no_software_root_is_an_anchor_of_hardware() -> None:
    software = {_spki(certificate) for certificate in real_anchors().android_software}
    assert not software & {
        _spki(each) for kind in ("android", "apple", "yubikey") for each in getattr(real_anchors(), kind)
    }


def test_a_test_root_is_an_anchor_of_the_kind_that_its_unit_names() -> None:
    root = TestRoot.memory()
    added = {
        kind: [each.public_bytes(Encoding.DER) for each in getattr(anchors(root.certificates), kind)][
            len(getattr(real_anchors(), kind)) :
        ]
        for kind in Anchors._fields
    }
    assert added == {
        "apple": [root.certificate["apple-appattest"]],
        "android": [root.certificate["android-hardware"]],
        "android_software": [root.certificate["android-software"]],
        "yubikey": [root.certificate["yubikey-piv"]],
    }
    assert anchors() == real_anchors()


def test_a_test_root_without_a_known_unit_is_refused() -> None:
    foreign = real_anchors().apple[0].public_bytes(Encoding.DER)
    with pytest.raises(ValueError, match="the OU of a test root must be one of apple-appattest"):
        anchors((foreign,))
    with pytest.raises(ValueError, match="asn1"):
        anchors((b"not a certificate",))
