"""base64, hex and times: only the encoder's own output is accepted."""

from __future__ import annotations

import base64
import contextlib
import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64, format_time, parse_time
from sigil.protocol.errors import InvalidRequest

bounded = settings(max_examples=60)
LAST_SECOND = 253402300799

any_text = st.text(st.characters() | st.sampled_from("\ud800 \n\t=-_+/"), max_size=24)
nearly_base64 = st.text(st.sampled_from("AQgwBZaz019+/-_= \n"), max_size=12)
nearly_hex = st.text(st.sampled_from("0189afAFgx \n０"), min_size=7, max_size=9)
nearly_time = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}".format,
    *(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32), st.sampled_from("TTTt ")),
    *(st.integers(0, 25), st.integers(0, 61), st.integers(0, 61), st.sampled_from(["Z", "Z", "z", "", "Z\n", "+"])),
)


@bounded
@given(st.binary(max_size=100))
def test_base64_round_trips(data: bytes) -> None:
    text = encode_base64(data)
    assert text == base64.b64encode(data).decode()
    assert decode_base64(text, "$") == decode_base64(text, "$", length=len(data)) == data


@bounded
@given(nearly_base64 | any_text)
def test_accepted_base64_is_encoded_the_same_again(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert encode_base64(decode_base64(text, "$")) == text


@bounded
@given(st.binary(min_size=1, max_size=40), st.data())
def test_no_other_spelling_of_the_same_base64_is_accepted(data: bytes, draw: st.DataObject) -> None:
    text = encode_base64(data)
    at = draw.draw(st.integers(0, len(text)))
    character = draw.draw(st.sampled_from(" \n\r\t=A\0é"))
    for other in (
        text[:at] + character + text[at:],
        text[:at] + character + text[at + 1 :],
        text[:at] + text[at + 1 :],
    ):
        with contextlib.suppress(InvalidRequest):
            assert decode_base64(other, "$") != data or other == text


@bounded
@given(st.binary(max_size=40))
def test_hex_round_trips_only_in_lower_case(data: bytes) -> None:
    assert decode_hex(data.hex(), "$", length=len(data)) == data
    if data.hex() != data.hex().upper():
        with contextlib.suppress(InvalidRequest):
            assert not decode_hex(data.hex().upper(), "$", length=len(data))


@bounded
@given(nearly_hex | any_text)
def test_accepted_hex_is_encoded_the_same_again(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert decode_hex(text, "$", length=4).hex() == text


@bounded
@given(st.integers(0, LAST_SECOND))
def test_a_time_round_trips(seconds: int) -> None:
    text = format_time(seconds)
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    assert text == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert parse_time(text, "$") == seconds


@bounded
@given(nearly_time | any_text)
def test_an_accepted_time_is_formatted_the_same_again(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert format_time(parse_time(text, "$")) == text
