"""The walk from an anchor to the attested certificate, for all kinds: names, signatures, CA flags, path lengths, dates.

    chain = yield from reading(certificates)               # Rejected: malformed
    walk = anchored(chain, expected.anchors.apple)         # None: no anchor issued it
    yield from linking(walk)                               # Rejected: names, signatures, CA flags, path lengths

An own reader of the structure, since cryptography refuses the leaf of phones of 2026 (`critical` encoded as 0x01);
certificates that issue others are read by cryptography as well, so that both have to accept a CA. `x509.verification`
is not used: it fails on the certificates of App Attest and on the dates of phones.
"""

from __future__ import annotations

import calendar
import hashlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sigil.attestation.encoding import der
from sigil.attestation.encoding.der import DerError, Node, oid, parse
from sigil.attestation.statements import Check, Rejected
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.attestation import MAX_CERTIFICATE, MAX_CERTIFICATES, MAX_STATEMENT, MIN_CERTIFICATES

CLOCK_SLACK = 300
"""Seconds by which the clock of this host and an issuer's may differ."""

COMMON_NAME, SERIAL_NUMBER, ORGANIZATION, TITLE = (oid(f"2.5.4.{number}") for number in (3, 5, 10, 12))
_CRITICAL = (0x00, 0x01, 0xFF)
_ECDSA: Mapping[bytes, hashes.HashAlgorithm] = {
    oid("1.2.840.10045.4.3.2"): hashes.SHA256(),
    oid("1.2.840.10045.4.3.3"): hashes.SHA384(),
    oid("1.2.840.10045.4.3.4"): hashes.SHA512(),
}
_RSA: Mapping[bytes, hashes.HashAlgorithm] = {
    oid("1.2.840.113549.1.1.11"): hashes.SHA256(),
    oid("1.2.840.113549.1.1.12"): hashes.SHA384(),
    oid("1.2.840.113549.1.1.13"): hashes.SHA512(),
}
# OpenSSL takes 18 ms for a signature of 3072 bits with an exponent of that length, and 9 ms for one of 16384 bits.
# Under an emulator's root anyone can issue such a key. Real ones have 2048 or 4096 bits and the exponent 65537.
_MAX_RSA_BITS, _MAX_RSA_EXPONENT_BITS = 4096, 32
_P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


class Broken(Exception):
    """The chain does not hold; the text says where. Index 0 is the attested certificate."""


class Certificate(NamedTuple):
    """The parts that are verified. `extensions`: from OID to value. Names and `spki` are DER as the issuer wrote it."""

    raw: bytes
    tbs: bytes
    serial: int
    algorithm: bytes
    issuer: bytes
    validity: tuple[Node, ...]
    subject: bytes
    attributes: tuple[tuple[bytes, str], ...]
    spki: bytes
    extensions: Mapping[bytes, bytes]
    signature: bytes

    @property
    def serial_hex(self) -> str:
        """As Android's status list writes it: lower case, no leading zeros."""
        return f"{self.serial:x}"

    def named(self, kind: bytes) -> list[str]:
        """The values of one attribute of the subject."""
        return [text for attribute, text in self.attributes if attribute == kind]

    def valid(self, now: float, *, expires: bool = True) -> bool:
        """Whether `now` is within the dates; without `expires`, only whether they have begun."""
        try:
            begin, end = (_seconds(node) for node in self.validity)
        except DerError:
            return False
        return begin - CLOCK_SLACK <= now and (not expires or now <= end + CLOCK_SLACK)


class Walk(NamedTuple):
    """Certificates from the attested one to the one that `anchor` issued."""

    certificates: tuple[Certificate, ...]
    anchor: x509.Certificate


def reading(x5c: Sequence[str] | Sequence[bytes]) -> Generator[Check, None, tuple[Certificate, ...]]:
    """The certificates of a statement, in base64 or as bytes. Rejected."""
    try:
        chain = _read([decode_base64(each, "$.x5c") if isinstance(each, str) else each for each in x5c])
    except (Broken, InvalidRequest) as error:
        yield Check("certificates", False, "malformed", str(error))
        raise Rejected("malformed", "certificates") from error
    yield Check("certificates", True, "malformed", f"{len(chain)} certificates")
    return chain


def test_roots(walk: Walk, listed: Sequence[bytes]) -> tuple[str, ...]:
    """The fact of this name: the hash of the anchor, if it is one of the operator's own for tests (DER)."""
    own = walk.anchor.public_bytes(Encoding.DER)
    return (hashlib.sha256(own).hexdigest(),) if own in listed else ()


def linking(walk: Walk, *, bare_issuer: bool = False) -> Iterator[Check]:
    """Rejected. `bare_issuer`: see `check_links`."""
    try:
        check_links(walk, bare_issuer=bare_issuer)
    except Broken as error:
        yield Check("links", False, "chain", str(error))
        raise Rejected("chain", "links") from error
    yield Check("links", True, "chain", f"{len(walk.certificates)} below the root")


def _read(certificates: Sequence[bytes]) -> tuple[Certificate, ...]:
    if not MIN_CERTIFICATES <= len(certificates) <= MAX_CERTIFICATES:
        raise Broken(f"{len(certificates)} certificates where {MIN_CERTIFICATES} to {MAX_CERTIFICATES} are expected")
    if max(map(len, certificates)) > MAX_CERTIFICATE or sum(map(len, certificates)) > MAX_STATEMENT:
        raise Broken(f"a certificate of more than {MAX_CERTIFICATE} bytes, or {MAX_STATEMENT} in all")
    read = []
    for index, data in enumerate(certificates):
        try:
            # The leaf alone may have the octet that phones use for TRUE.
            read.append(read_certificate(data, _CRITICAL) if index == 0 else read_certificate(data))
        except DerError as error:
            raise Broken(f"certificate {index}: {error}") from error
    return tuple(read)


def read_certificate(data: bytes, booleans: tuple[int, ...] = (0x00, 0xFF)) -> Certificate:
    """X.509 version 3 (RFC 5280, 4.1). DerError."""
    tbs, algorithm, signature = parse(data, booleans).items(least=3, most=3)
    fields = tbs.items(least=7, most=8)
    version, serial, inner, issuer, validity, subject, spki = fields[:7]
    if version.items(der.context(0), 1, 1)[0].integer() != 2:
        raise DerError("not version 3")
    if inner.raw != algorithm.raw:
        raise DerError("two different signature algorithms")
    for name in (issuer, subject, spki):
        name.of(der.SEQUENCE)
    return Certificate(
        raw=data,
        tbs=tbs.raw,
        serial=serial.integer(),
        algorithm=algorithm.items(least=1, most=2)[0].of(der.OID).content,
        issuer=issuer.raw,
        validity=validity.items(least=2, most=2),
        subject=subject.raw,
        attributes=_attributes(subject),
        spki=spki.raw,
        extensions=_extensions(fields[7]) if len(fields) == 8 else {},
        signature=signature.bits(),
    )


def anchored(chain: tuple[Certificate, ...], anchors: Sequence[x509.Certificate]) -> Walk | None:
    """The chain below its anchor: the last certificate is an anchor by its key, or an anchor issued it."""
    last = chain[-1]
    for anchor in anchors:
        if last.spki == _own(anchor).spki:
            return Walk(chain[:-1], anchor)
    for anchor in anchors:
        if last.issuer == _own(anchor).subject and _is_signed(last, anchor.public_key()):
            return Walk(chain, anchor)
    return None


def check_links(walk: Walk, *, bare_issuer: bool = False) -> None:
    """Broken: a name, a signature, a CA flag, a key usage or a path length. The rule of dates differs by kind.

    `bare_issuer`: the issuer of the attested certificate may have no basicConstraints. The caller then has to refuse
    every attested certificate as an issuer.
    """
    if len(walk.certificates) < MIN_CERTIFICATES:
        raise Broken("the root issued the attested certificate itself")
    issuer, authority = _own(walk.anchor), walk.anchor
    key: object = walk.anchor.public_key()
    for index in range(len(walk.certificates) - 1, -1, -1):
        certificate = walk.certificates[index]
        bare = bare_issuer and index == 0
        _check_authority(authority, below=index, named=f"the issuer of certificate {index}", bare=bare)
        if certificate.spki == issuer.spki:
            # A root that is sent twice would stand where the kind of the chain is read from.
            raise Broken(f"certificate {index} has the key of its issuer")
        if certificate.issuer != issuer.subject:
            raise Broken(f"certificate {index} names another issuer")
        if not _is_signed(certificate, key):
            raise Broken(f"certificate {index} is not signed by its issuer")
        if index:
            # Only now: a key that its issuer did not sign costs nothing.
            issuer, (authority, key) = certificate, _authority(certificate, index)


def p256_wire(spki: bytes) -> bytes | None:
    """The key on the wire (33 bytes SEC1 compressed), if it is one of P-256."""
    x, y = spki[len(_P256_SPKI) : -32], spki[-32:]
    if len(spki) != len(_P256_SPKI) + 64 or not spki.startswith(_P256_SPKI):
        return None
    return bytes([2 + (y[-1] & 1)]) + x


def _attributes(name: Node) -> tuple[tuple[bytes, str], ...]:
    pairs = [pair.items(least=2, most=2) for names in name.items() for pair in names.items(der.SET)]
    return tuple((kind.of(der.OID).content, value.text()) for kind, value in pairs if value.tag in der.TEXT)


def _extensions(field: Node) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for extension in field.items(der.context(3), 1, 1)[0].items():
        kind, *critical, value = extension.items(least=2, most=3)
        if critical:
            critical[0].boolean()
        if kind.of(der.OID).content in found:
            raise DerError("an extension twice")
        found[kind.content] = value.octets()
    return found


@lru_cache(maxsize=32)
def _own(anchor: x509.Certificate) -> Certificate:
    return read_certificate(anchor.public_bytes(Encoding.DER))


def _authority(certificate: Certificate, index: int) -> tuple[x509.Certificate, object]:
    try:
        authority = x509.load_der_x509_certificate(certificate.raw)
        key = authority.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Broken(f"certificate {index} is not read by cryptography") from error
    if isinstance(key, rsa.RSAPublicKey) and (
        key.key_size > _MAX_RSA_BITS or key.public_numbers().e.bit_length() > _MAX_RSA_EXPONENT_BITS
    ):
        raise Broken(f"certificate {index} has an RSA key whose size or exponent is too large")
    return authority, key


def _check_authority(certificate: x509.Certificate, *, below: int, named: str, bare: bool) -> None:
    """That it may issue a certificate under which `below` others follow (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    try:
        values = [extension.value for extension in certificate.extensions]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Broken(f"{named} has extensions that are not read") from error
    constraints = [value for value in values if isinstance(value, x509.BasicConstraints)]
    if not (bare or constraints) or not all(each.ca for each in constraints):
        raise Broken(f"{named} is not a CA")
    if not all(value.key_cert_sign for value in values if isinstance(value, x509.KeyUsage)):
        raise Broken(f"{named} may not sign certificates")
    if any(each.path_length is not None and below > each.path_length for each in constraints):
        raise Broken(f"{named} has more CAs below it than it may")


def _is_signed(certificate: Certificate, key: object) -> bool:
    """By the hash that the certificate names: an issuer with P-384 signs with SHA-256 too. SHA-1 is not accepted."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and certificate.algorithm in _ECDSA:
            key.verify(certificate.signature, certificate.tbs, ec.ECDSA(_ECDSA[certificate.algorithm]))
        elif isinstance(key, rsa.RSAPublicKey) and certificate.algorithm in _RSA:
            key.verify(certificate.signature, certificate.tbs, padding.PKCS1v15(), _RSA[certificate.algorithm])
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _seconds(node: Node) -> int:
    """Unix seconds of a UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5)."""
    text = node.text()
    if node.tag == der.UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif node.tag != der.GENERALIZED_TIME:
        raise DerError("a date that is not a time")
    if len(text) != 15 or not text[:14].isdecimal():
        raise DerError("a date of another form")
    try:
        return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
    except ValueError:
        raise DerError("a date that does not exist") from None
