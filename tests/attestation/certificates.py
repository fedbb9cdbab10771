"""Certificates as bytes, for the tests of this folder."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
