"""The walk of a chain: what certificate may issue what, sizes, dates, forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sigil.attestation.certificates.chain import Broken, anchored, check_links, p256_wire, read_certificate, reading
from sigil.attestation.encoding.der import DerError, oid, parse
from sigil.attestation.statements import Rejected
from sigil.device.test_phone import der
from sigil.device.test_phone.certificates import (
    BASIC_CONSTRAINTS,
    DAY,
    TRUE,
    Authority,
    Certificate,
    SigningKey,
    ca_extension,
    new_key,
    spki,
)
from sigil.protocol.messages.attestation import MAX_CERTIFICATE
from tests.attestation.support import DEVICE, NOW, ROOT, expected, outcome

_ANCHORS = expected().anchors.yubikey
_ROOT = ROOT.authority("yubikey-piv")
_KEY_USAGE = "2.5.29.15"


def _limited(path_length: int) -> bytes:
    content = der.sequence(der.boolean(TRUE), der.integer(path_length))
    return der.extension(BASIC_CONSTRAINTS, content, critical=[TRUE])


def _usage(octet: int) -> bytes:
    return der.extension(_KEY_USAGE, der.tlv(0x03, b"\0" + bytes([octet])), critical=[TRUE])


def _chain(*issuers: dict[str, Any], leaf: dict[str, Any] | None = None) -> list[bytes]:
    """Leaf first; `issuers` from the one that the root issues, with fields of a Certificate."""
    authority, made = _ROOT, []
    for number, fields in enumerate(issuers):
        key: SigningKey = fields.pop("key", None) or new_key()
        name = der.name(("2.5.4.3", f"CA {number}"))
        content = Certificate(subject=name, public_key=key.public_key(), **{"extensions": [ca_extension()], **fields})
        made.append(content.issued(authority, NOW))
        authority = Authority(name, key)
    end = Certificate(subject=der.name(("2.5.4.3", "leaf")), public_key=new_key().public_key(), **(leaf or {}))
    return [end.issued(authority, NOW), *reversed(made)]


def _walk(chain: list[bytes], *, bare_issuer: bool = False) -> None:
    read = tuple(read_certificate(each) for each in chain)
    walk = anchored(read, _ANCHORS)
    assert walk is not None
    check_links(walk, bare_issuer=bare_issuer)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
)
@pytest.mark.parametrize("name", ["sha256", "sha384"])
def test_issuers_of_any_supported_key_sign_with_any_supported_hash(key: SigningKey, name: str) -> None:
    """An issuer with P-384 that signs with SHA-256 is real, and other verifiers stumble over it."""
    _walk(_chain({}, {"key": key}, leaf={"signature_hash": name}))


def _rsa_key(exponent_bits: int) -> rsa.RSAPrivateKey:
    """A key of 2048 bits that signs, with an exponent of that length."""
    drawn = rsa.generate_private_key(65537, 2048).private_numbers()
    phi = (drawn.p - 1) * (drawn.q - 1)
    e = next(e for e in range(2 ** (exponent_bits - 1) + 1, 2**exponent_bits, 2) if math.gcd(e, phi) == 1)
    d = pow(e, -1, phi)
    public = rsa.RSAPublicNumbers(e, drawn.public_numbers.n)
    rest = rsa.rsa_crt_dmp1(d, drawn.p), rsa.rsa_crt_dmq1(d, drawn.q), drawn.iqmp
    return rsa.RSAPrivateNumbers(drawn.p, drawn.q, d, *rest, public).private_key()


def test_an_rsa_key_that_takes_long_to_verify_with_is_refused() -> None:
    _walk(_chain({}, {"key": _rsa_key(32)}))
    for key in (_rsa_key(33), rsa.generate_private_key(65537, 4104)):
        with pytest.raises(Broken, match="certificate 1 has an RSA key whose size or exponent"):
            _walk(_chain({}, {"key": key}))


@pytest.mark.parametrize(
    ("extensions", "accepted"),
    [
        ([ca_extension()], True),
        ([_limited(0)], True),
        ([ca_extension(), _usage(0x04)], True),
        ([ca_extension(), _usage(0x06)], True),
        ([ca_extension(), _usage(0x80)], False),
        ([ca_extension(False)], False),
        ([ca_extension(), ca_extension()], False),
        ([], False),
        ([_usage(0x04)], False),
    ],
)
def test_only_a_ca_that_may_sign_certificates_issues_one(extensions: list[bytes], accepted: bool) -> None:
    chain = _chain({"extensions": extensions})
    if accepted:
        _walk(chain)
        return
    with pytest.raises((Broken, DerError), match=r"not a CA|may not sign|twice"):
        _walk(chain)


def test_a_bare_issuer_is_accepted_next_to_the_leaf_alone_and_only_where_the_kind_allows_it() -> None:
    bare: dict[str, Any] = {"extensions": []}
    _walk(_chain({}, dict(bare)), bare_issuer=True)
    for chain in (_chain(dict(bare), {}), _chain({}, {"extensions": [_usage(0x80)]})):
        with pytest.raises(Broken, match=r"not a CA|may not sign"):
            _walk(chain, bare_issuer=True)
    with pytest.raises(Broken, match="not a CA"):
        _walk(_chain({}, dict(bare)))


def test_a_path_length_is_a_limit() -> None:
    _walk(_chain({"extensions": [_limited(1)]}, {}))
    with pytest.raises(Broken, match="more CAs below it"):
        _walk(_chain({"extensions": [_limited(0)]}, {}))
    with pytest.raises(Broken, match="more CAs below it"):
        _walk(_chain({"extensions": [_limited(1)]}, {}, {}))


def test_a_root_below_the_root_and_a_leaf_of_the_root_are_refused() -> None:
    root = ROOT.certificate["yubikey-piv"]
    with pytest.raises(Broken, match="the key of its issuer"):
        _walk([*_chain({}), root, root])
    with pytest.raises(Broken, match="issued the attested certificate itself"):
        _walk([*_chain(), root])
    _walk([*_chain({}), root])


def test_a_chain_without_an_anchor_has_no_walk() -> None:
    read = tuple(read_certificate(each) for each in _chain({}))
    assert anchored(read, ()) is None
    assert anchored(read, expected().anchors.apple) is None


def test_nine_issuers_and_a_leaf_are_walked() -> None:
    _walk(_chain(*({} for _ in range(9))))


def test_the_certificates_are_limited_in_number_and_size() -> None:
    good = _chain({})
    padding = der.extension("1.2.3.4", der.octets(bytes(7500)))
    long = _chain({}, leaf={"extensions": [padding]})
    assert 7500 < len(long[0]) <= MAX_CERTIFICATE
    for chain, rule in (
        ([], "0 certificates"),
        (good[:1], "1 certificates"),
        (good * 6, "12 certificates"),
        ([good[0], bytes(MAX_CERTIFICATE + 1)], "more than 8192 bytes"),
        ([*long[:1] * 6, *long[1:]], "or 40960 in all"),
    ):
        made, checks = outcome(reading(chain))  # type: ignore[arg-type]
        assert made is None
        assert checks[-1].reason == "malformed"
        assert rule in checks[-1].text
    assert len(list(reading(good))) == 1
    assert len(list(reading([*long[:1] * 5, *long[1:]]))) == 1
    with pytest.raises(Rejected, match="certificates"):
        list(reading(["?", "?"]))


def test_the_leaf_alone_may_encode_true_as_phones_do() -> None:
    phone = der.extension("1.2.3.4", b"", critical=[b"\x01"])
    assert len(list(reading(_chain({}, leaf={"extensions": [phone]})))) == 1
    made, checks = outcome(reading(_chain({"extensions": [ca_extension(), phone]})))  # type: ignore[arg-type]
    assert made is None
    assert checks[-1].text == "certificate 1: a BOOLEAN that is not DER"


def test_dates_are_those_of_rfc_5280_with_a_slack_of_five_minutes() -> None:
    def made(begin: int, end: int) -> Any:
        return read_certificate(_chain({}, leaf={"not_before": begin, "not_after": end})[0])

    certificate = made(NOW, NOW + DAY)
    valid = [now for now in (NOW - 301, NOW - 300, NOW + DAY + 300, NOW + DAY + 301) if certificate.valid(now)]
    assert valid == [NOW - 300, NOW + DAY + 300]
    assert certificate.valid(NOW + 99 * DAY, expires=False)
    assert not certificate.valid(NOW - 301, expires=False)
    # UTCTime until 2049, GeneralizedTime after it, and 1970 as UTCTime.
    assert made(0, 4_000_000_000).valid(3_900_000_000)
    assert not made(0, 4_000_000_000).valid(4_000_000_400)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"261301000000Z"),
        (0x17, b"260230000000Z"),
        (0x17, b"26010100000aZ"),
        (0x17, b"260101000000+"),
        (0x17, b"2601010000Z"),
        (0x17, b"20260101000000Z"),
        (0x18, b"260101000000Z"),
        (0x18, b"2026010100000Z"),
        (0x18, b"20260101000000.5Z"),
        (0x0C, b"260101000000Z"),
    ],
)
def test_a_date_of_another_form_is_not_valid(tag: int, text: bytes) -> None:
    certificate = read_certificate(_chain({})[0])
    assert certificate.valid(NOW)
    begin, end = certificate.validity
    assert certificate._replace(validity=(parse(der.tlv(0x17, b"260101000000Z")), end)).valid(NOW)
    assert not certificate._replace(validity=(parse(der.tlv(tag, text)), end)).valid(NOW)
    assert not certificate._replace(validity=(begin, parse(der.tlv(tag, text)))).valid(NOW)


def test_a_certificate_of_another_form_is_refused() -> None:
    good = _chain({})[0]
    version = good.replace(der.explicit(0, der.integer(2)), der.explicit(0, der.integer(1)), 1)
    algorithm = der.sequence(der.oid("1.2.840.10045.4.3.2"))
    other = good.replace(algorithm, der.sequence(der.oid("1.2.840.10045.4.3.3")), 1)
    serial = _chain({}, leaf={"serial": 1 << 168})[0]
    twice = _chain({}, leaf={"extensions": [_usage(4), _usage(4)]})[0]
    for data, rule in (
        (version, "version 3"),
        (other, "two different"),
        (serial, "too long"),
        (twice, "twice"),
        (b"\x30\x00", "elements"),
    ):
        with pytest.raises(DerError, match=rule):
            read_certificate(data)


def test_sha_1_signs_no_certificate() -> None:
    chain = _chain({})
    read = [read_certificate(each) for each in chain]
    walk = anchored(tuple(read), _ANCHORS)
    assert walk is not None
    check_links(walk)
    # ecdsa-with-SHA1, ecdsa-with-SHA224, and a hash of RSA for a key of an elliptic curve.
    for name in ("1.2.840.10045.4.1", "1.2.840.10045.4.3.1", "1.2.840.113549.1.1.11"):
        leaf = read[0]._replace(algorithm=oid(name))
        with pytest.raises(Broken, match="not signed"):
            check_links(walk._replace(certificates=(leaf, *walk.certificates[1:])))


def test_the_key_on_the_wire_is_one_of_p256_alone() -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), DEVICE.wire)
    assert p256_wire(spki(key)) == DEVICE.wire
    assert p256_wire(spki(new_key(ec.SECP384R1()).public_key())) is None
    assert p256_wire(spki(new_key(ec.SECP256K1()).public_key())) is None
    assert p256_wire(spki(key)[:-1]) is None
    assert p256_wire(spki(key) + b"\0") is None
    assert p256_wire(b"") is None
    assert p256_wire(bytes(27) + spki(key)[27:]) is None
