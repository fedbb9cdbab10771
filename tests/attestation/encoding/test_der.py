"""The DER reader against an oracle, and each rule by one broken value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode
from pyasn1.error import PyAsn1Error

from sigil.attestation.certificates.roots import real_anchors
from sigil.attestation.encoding import der
from sigil.attestation.encoding.der import DerError, Node, parse
from sigil.device.test_phone.der import sequence
from tests.attestation.support import encoded

_CERTIFICATE = encoded(real_anchors().apple[0])


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ("", "cut off"),
        ("30", "cut off"),
        ("3005", "longer than"),
        ("3082", "cut off"),
        ("0400ff", "bytes after"),
        ("30800000", "indefinite"),
        ("0483000001ff", "oversized"),
        ("048101ff", "length that is not minimal"),
        ("04820001ff", "length that is not minimal"),
        ("048200ff" + "00" * 255, "length that is not minimal"),
        ("30030401", "longer than"),
        ("3003040200", "longer than"),
        ("010101", "BOOLEAN"),
        ("0100", "BOOLEAN"),
        ("01020000", "BOOLEAN"),
        ("0200", "INTEGER"),
        ("0202007f", "INTEGER"),
        ("0202ff80", "INTEGER"),
        ("0a020001", "INTEGER"),
        ("050100", "NULL"),
        ("0300", "BIT STRING"),
        ("030108", "BIT STRING"),
        ("030101", "BIT STRING"),
        ("03020101", "BIT STRING"),
        ("0600", "OBJECT IDENTIFIER"),
        ("06022a86", "OBJECT IDENTIFIER"),
        ("06022a80", "OBJECT IDENTIFIER"),
        ("06028001", "OBJECT IDENTIFIER"),
        ("06032a8001", "OBJECT IDENTIFIER"),
        ("0c01ff", "character set"),
        ("130180", "character set"),
        ("1e0100", "character set"),
        ("1701ff", "character set"),
        ("2403040100", "not expected"),
        ("2203020100", "not expected"),
        ("0900", "not expected"),
        ("0000", "not expected"),
        ("4100", "not expected"),
        ("6000", "not expected"),
        ("a000", "exactly one"),
        ("a00405000500", "exactly one"),
        ("8000", "not expected"),
        ("c000", "not expected"),
        ("bf8001020100", "leading zeros"),
        ("bf1e020100", "fits the short form"),
        ("bf8180000100", "out of range"),
        ("bf85", "cut off"),
    ],
)  # fmt: skip
def test_each_rule_refuses_a_value_that_breaks_it(data: str, rule: str) -> None:
    with pytest.raises(DerError, match=rule):
        parse(bytes.fromhex(data))


def test_sizes_and_depths_are_bounded() -> None:
    with pytest.raises(DerError, match="more than"):
        parse(bytes(der.MAX_SIZE + 1))
    most = der.MAX_VALUES - 1
    assert len(parse(sequence(b"\x05\x00" * most)).children) == most
    # Also where they are spread over several levels: what is counted is the work.
    for many in (b"\x05\x00" * (most + 1), sequence(b"\x05\x00" * (most // 2)) * 2):
        with pytest.raises(DerError, match=f"more than {der.MAX_VALUES} values"):
            parse(sequence(many))
    deep = b"\x05\x00"
    for _ in range(der.MAX_DEPTH - 1):
        deep = bytes([0x30, len(deep)]) + deep
    assert parse(deep).tag == der.SEQUENCE
    with pytest.raises(DerError, match="deep"):
        parse(bytes([0x30, len(deep)]) + deep)
    # 5 000 levels, each of which fits its parent: the depth is refused, not the interpreter's stack.
    nested = b""
    for _ in range(4000):
        nested = (b"\x30" + (bytes([len(nested)]) if len(nested) < 128 else b"\x82" + len(nested).to_bytes(2))) + nested
    with pytest.raises(DerError, match="deep"):
        parse(nested)


def test_values_are_read_by_their_types() -> None:
    node = parse(bytes.fromhex("301c 0202ff7f 0401aa 0101ff 03020055 bf854803 02012a a3030a0107 0500"))
    number, octets, boolean, bits, high, low, null = node.items(least=7, most=7)
    assert (number.integer(), octets.octets(), boolean.boolean(), bits.bits()) == (-129, b"\xaa", True, b"\x55")
    assert high.items(der.context(712), 1, 1)[0].integer() == 42
    assert low.items(der.context(3), 1, 1)[0].integer(der.ENUMERATED) == 7
    assert high.raw.hex() == "bf85480302012a"
    assert null.of(der.NULL).content == b""
    with pytest.raises(DerError, match="expected tag"):
        number.octets()
    with pytest.raises(DerError, match="0 elements where 1 to 2"):
        parse(b"\x30\x00").items(least=1, most=2)
    assert parse("\x0c\x02é".encode()).text() == "é"
    with pytest.raises(DerError, match="a text was expected"):
        null.text()
    with pytest.raises(DerError, match="unused bits"):
        parse(bytes.fromhex("030201fe")).bits()


def test_the_octets_of_true_are_those_that_the_document_may_use() -> None:
    assert parse(b"\x01\x01\x01", booleans=(0, 1, 255)).boolean() is True
    assert parse(b"\x01\x01\x00", booleans=(0, 1, 255)).boolean() is False
    with pytest.raises(DerError, match="BOOLEAN"):
        parse(b"\x01\x01\x02", booleans=(0, 1, 255))


def _has_an_empty_list(node: Node) -> bool:
    if node.tag in (der.SEQUENCE, der.SET) and not node.children:
        return True
    return any(_has_an_empty_list(child) for child in node.children)


def _agrees(data: bytes) -> None:
    """DerError alone, and nothing that the oracle refuses."""
    try:
        node = parse(data)
    except DerError:
        return
    assert node.raw == data
    try:
        _, rest = decode(data)
    except (PyAsn1Error, AttributeError) as error:
        if any(_has_an_empty_list(child) for child in node.children):
            return  # The oracle's own fault: it has no value for them.
        raise AssertionError(f"the oracle refuses {data.hex()}") from error
    assert rest == b""


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_the_oracle_reads_them_or_refused(data: bytes) -> None:
    _agrees(data)


def _wrap(tag: int, content: bytes) -> bytes:
    length = bytes([len(content)]) if len(content) < 128 else b"\x81" + bytes([len(content)])
    return bytes([tag]) + length + content if len(content) < 256 else b"\x05\x00"


_PRIMITIVES = st.builds(_wrap, st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 19, 23]), st.binary(max_size=6))
_TREES = st.recursive(
    _PRIMITIVES,
    lambda inner: st.builds(_wrap, st.sampled_from([0x30, 0x31, 0xA0]), st.lists(inner, max_size=3).map(b"".join)),
    max_leaves=8,
)


@given(_TREES)
def test_generated_trees_are_read_as_the_oracle_reads_them_or_refused(data: bytes) -> None:
    _agrees(data)


@given(st.integers(0, len(_CERTIFICATE) - 1), st.integers(0, 255))
def test_a_certificate_with_one_changed_byte_is_read_as_the_oracle_reads_it_or_refused(at: int, octet: int) -> None:
    _agrees(_CERTIFICATE[:at] + bytes([octet]) + _CERTIFICATE[at + 1 :])


@given(st.integers(0, len(_CERTIFICATE) - 1))
def test_a_certificate_that_is_cut_off_is_refused(end: int) -> None:
    with pytest.raises(DerError):
        parse(_CERTIFICATE[:end])
