"""The CBOR reader against cbor2, an independent one that is less strict, and against each form that it refuses."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sigil.attestation.encoding import cbor
from sigil.attestation.encoding.cbor import CborError
from sigil.device.test_phone.cbor import Raw, encode

_SCALARS = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20)
_KEYS = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8)


def _values(depth: int) -> st.SearchStrategy[Any]:
    if depth == 0:
        return _SCALARS
    inner = _values(depth - 1)
    return _SCALARS | st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3)


@given(_values(2))
@settings(max_examples=300, deadline=None)
def test_what_a_writer_writes_is_read_again(value: object) -> None:
    assert cbor.decode(cbor2.dumps(value)) == value
    assert cbor.decode(encode(value)) == value


def _agrees(data: bytes) -> None:
    """Never another exception than CborError, and never a value where the oracle has none or another."""
    try:
        value = cbor.decode(data)
    except CborError:
        return
    assert cbor2.loads(data) == value
    # One value has one form: what was read is written as the same bytes.
    assert encode(value) == data


@given(st.binary(max_size=60))
@settings(max_examples=1000, deadline=None)
@example(b"\xa2\x01\x02\x01\x03")
@example(b"\xd8\x1c\x81\xd8\x1d\x00")
def test_arbitrary_bytes_are_refused_or_mean_what_the_oracle_reads(data: bytes) -> None:
    _agrees(data)


@given(_values(2).map(encode), st.data())
@settings(max_examples=1000, deadline=None)
def test_a_changed_byte_is_refused_or_means_what_the_oracle_reads(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = draw.draw(st.binary(max_size=3))
    _agrees(data[:at] + changed + data[at + 1 :])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends early"),
        (b"\x18", "ends early"),
        (b"\x42a", "ends early"),
        (b"\x82\x00", "ends early"),
        (b"\xa1\x00", "ends early"),
        (b"\x5b" + b"\xff" * 8, "ends early"),
        (b"\x9b" + b"\xff" * 8, "ends early"),
        (b"\x00\x00", "bytes after its end"),
        (b"\x18\x17", "longer form"),
        (b"\x19\x00\xff", "longer form"),
        (b"\x1a\x00\x00\xff\xff", "longer form"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "longer form"),
        (b"\x58\x01a", "longer form"),
        (b"\xb8\x01\x00\x00", "longer form"),
        (b"\x5f\x41a\xff", "indefinite"),
        (b"\x7f\x61a\xff", "indefinite"),
        (b"\x9f\x00\xff", "indefinite"),
        (b"\xbf\x00\x00\xff", "indefinite"),
        (b"\x1c", "reserved"),
        (b"\xff", "indefinite"),
        (b"\x61\xff", "not UTF-8"),
        (b"\x63\xed\xa0\x80", "not UTF-8"),
        (b"\xa2\x00\x01\x00\x02", "repeated"),
        (b"\xa2\x61a\x01\x61a\x02", "repeated"),
        (b"\xa1\x41a\x00", "neither"),
        (b"\xa1\x80\x00", "neither"),
        (b"\xf4", "simple value"),
        (b"\xf6", "simple value"),
        (b"\xf9\x3c\x00", "simple value"),
        (b"\xfb" + b"\xff" * 8, "simple value"),
        (b"\xc0\x61a", "tag"),
        (b"\xd8\x1c\x81\xd8\x1d\x00", "tag"),
        (b"\x81" * 4 + b"\x00", "too deeply"),
        (b"\x81" * 100_000 + b"\x00", "too deeply"),
        (b"\xa1\x00" * 50_000 + b"\x00", "too deeply"),
        (encode([0] * 64), "too many items"),
        (encode(dict.fromkeys(range(32), 0)), "too many items"),
    ],
)
def test_each_form_that_is_not_strict_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CborError, match=message):
        cbor.decode(data)


def test_what_fits_the_bounds_is_read() -> None:
    assert cbor.decode(b"\x81" * 3 + b"\x00") == [[[0]]]
    assert cbor.decode(encode([0] * 63)) == [0] * 63
    assert cbor.decode(encode(Raw(b"\x1b" + b"\xff" * 8))) == 2**64 - 1
    assert cbor.decode(b"\x3b" + b"\xff" * 8) == -(2**64)


def test_the_first_of_several_items_is_read_from_an_offset() -> None:
    assert cbor.decode_first(b"\xff\x81\x05\x06", 1) == ([5], 3)
    with pytest.raises(CborError, match="ends early"):
        cbor.decode_first(b"\x00", 1)


def test_a_length_that_lies_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        for data in (b"\x9b" + b"\x7f" * 8, b"\xbb" + b"\x7f" * 8, b"\x5b" + b"\x7f" * 8, b"\x81" * 40_000):
            with pytest.raises(CborError):
                cbor.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
