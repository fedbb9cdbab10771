"""Issues the certificate of a self-signed pair and the authority in its file, and recognises such certificates."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 397
_AUTHORITY_DAYS = 3650


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


SUBJECT, AUTHORITY = _name("Sigil self-signed"), _name("Sigil self-signed authority")
_FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

Chain = tuple[x509.Certificate, ...]


def issue(
    private: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime.datetime,
    authority: x509.Certificate | None = None,
) -> Chain:
    """A certificate for `names`, and the authority that signs it: `authority`, or a new one where it ends too early
    or begins in the future.

    Both have the same key, and a renewal keeps key and authority. So a client or a proxy that trusts the file as it was
    accepts each renewed certificate (docs/decisions/0030-certificate-files-and-renewal.md).
    """
    now = now.replace(microsecond=0)
    ends = now + datetime.timedelta(days=VALID_DAYS)
    usable = authority and authority.not_valid_before_utc <= now and authority.not_valid_after_utc >= ends
    if authority is None or not usable:
        authority = _authority(private, names, now)
    public = private.public_key()
    certificate = (
        _builder(SUBJECT, private, now, ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_FOR_SERVERS, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    return certificate, authority


def _authority(
    private: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: datetime.datetime
) -> x509.Certificate:
    """For servers of `names` alone: where people trust it, its key gives no power over other sites or over mail."""
    permitted = [
        x509.IPAddress(ipaddress.ip_network(name.value)) if isinstance(name, x509.IPAddress) else name for name in names
    ]
    # A permitted name includes the names below it, and a host named "dev" would permit all of .dev.
    labels = {name.value for name in names if isinstance(name, x509.DNSName) and "." not in name.value} - {"localhost"}
    excluded = [x509.DNSName(f".{label}") for label in sorted(labels)] or None
    public = private.public_key()
    return (
        _builder(AUTHORITY, private, now, now + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(_FOR_SERVERS, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, private: ec.EllipticCurvePrivateKey, now: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(AUTHORITY)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(ends)
    )


def pem_of(chain: Chain) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def is_self_made(certificate: x509.Certificate) -> bool:
    """Whether a server of this program made it, this version or an earlier one.

    It has our name, and its own key signed it. No authority signs a certificate with the key in it, so one of another
    origin is never taken for ours.
    """
    try:
        public = certificate.public_key()
        if certificate.subject != SUBJECT or not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    # A key or a name that the library cannot read is of another origin.
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether clients trust it only if they are given it."""
    return certificate.issuer == certificate.subject or is_self_made(certificate)
