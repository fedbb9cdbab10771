"""The real anchors of each kind (roots/README.md), and the test roots that the operator adds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from cryptography import x509
from cryptography.x509.oid import NameOID

from sigil.attestation.statements import Anchors

# The OU of a test root names what it stands for: an emulator's root must not count as hardware.
_TEST_ROOTS = {
    "apple-appattest": "apple",
    "android-hardware": "android",
    "android-software": "android_software",
    "yubikey-piv": "yubikey",
}


@lru_cache(maxsize=1)
def real_anchors() -> Anchors:
    """The roots of the makers, from the files of this package."""
    folder = files("sigil.attestation.certificates") / "roots"
    kinds = {
        kind: tuple(x509.load_pem_x509_certificates((folder / f"{kind}.pem").read_bytes())) for kind in Anchors._fields
    }
    return Anchors(**kinds)


@lru_cache(maxsize=4)
def anchors(test_roots: tuple[bytes, ...] = ()) -> Anchors:
    """The real anchors and the test roots (DER). ValueError: a test root is not a certificate, or its OU is unknown."""
    found = real_anchors()._asdict()
    for der in test_roots:
        certificate = x509.load_der_x509_certificate(der)
        kinds = [_TEST_ROOTS[unit] for unit in _units(certificate) if unit in _TEST_ROOTS]
        if not kinds:
            raise ValueError(f"the OU of a test root must be one of {', '.join(_TEST_ROOTS)}")
        for kind in kinds:
            found[kind] = (*found[kind], certificate)
    return Anchors(**found)


def _units(certificate: x509.Certificate) -> Iterable[str]:
    named = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return [str(attribute.value) for attribute in named]
