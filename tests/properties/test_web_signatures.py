"""For any input, a signature of a web device is accepted only if it is one (docs/protocol.md, 2.1.1)."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.protocol import signed_bytes, webauthn
from sigil.protocol.keys import WebAuthnPublicKey
from tests.support.web_key import BE, BS, ED, LOCAL_ALONE, UP, UV, WebKey

bounded = settings(max_examples=150)

KEY = WebKey("https://sigil.example.com", assertion=7, local=9)
PUBLIC = KEY.public
assert isinstance(PUBLIC, WebAuthnPublicKey)
MESSAGE = signed_bytes.AUTH + bytes(64)
GOOD = KEY.sign(MESSAGE)
REASONS = {None, *get_args(webauthn.Reason)}
TAGS = [value for value in vars(signed_bytes).values() if isinstance(value, bytes)]

messages = st.builds(bytes.__add__, st.sampled_from([*TAGS, b""]), st.binary(max_size=40))
texts = st.binary(max_size=300) | st.text(max_size=200).map(str.encode)
numbers = st.integers(0, 2**16 - 1)
shaped = st.builds(
    lambda halves, n, data, text: halves + n.to_bytes(2) + data + text,
    st.binary(min_size=128, max_size=128),
    numbers,
    st.binary(min_size=37, max_size=60),
    texts,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@bounded
@given(messages, st.binary(max_size=1100) | shaped)
def test_any_bytes_are_rejected_for_a_reason(message: bytes, signature: bytes) -> None:
    reason = PUBLIC.refusal(message, signature)
    assert reason in REASONS - {None}
    assert not PUBLIC.verify(message, signature)


@bounded
@given(texts, st.binary(max_size=80))
def test_any_text_that_both_halves_signed_is_rejected_for_a_reason(text: bytes, data: bytes) -> None:
    """The signatures verify, so nothing but the checks rejects."""
    for forged in ({"client_data": text}, {"authenticator_data": data}):
        assert PUBLIC.refusal(MESSAGE, KEY.sign(MESSAGE, **forged)) in REASONS - {None}


@bounded
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_changed_byte_invalidates(place: int, change: int) -> None:
    spoilt = bytearray(GOOD)
    spoilt[place] ^= change
    assert not PUBLIC.verify(MESSAGE, bytes(spoilt))


@bounded
@given(st.dictionaries(st.text(max_size=8), values, max_size=3), st.integers(0, 16))
def test_unknown_members_are_ignored_up_to_a_depth(members: dict[str, Any], nested: int) -> None:
    value: Any = 0
    for _ in range(nested):
        value = [value]
    honest = json.loads(KEY.client_data(MESSAGE + sha256(KEY.wire).digest()))
    data = {**members, "nested": value, **honest}
    data.pop("topOrigin", None)
    try:
        text = json.dumps(data, allow_nan=False).encode()
    except ValueError:
        return  # NaN and infinities are no JSON
    signature = KEY.sign(MESSAGE, client_data=text)
    expected = None if depth(data) <= 16 else "client_data"
    assert PUBLIC.refusal(MESSAGE, signature) == ("length" if len(signature) > 1024 else expected)


@bounded
@given(st.integers(0, 255), st.binary(max_size=8))
def test_the_flags_decide(flags: int, extensions: bytes) -> None:
    accepted = (
        flags & (UP | UV) == UP | UV
        and not flags & 0x40
        and bool(extensions) == bool(flags & ED)
        and (not flags & BS or bool(flags & BE))
    )
    assert PUBLIC.verify(MESSAGE, KEY.sign(MESSAGE, flags=flags, extensions=extensions)) is accepted


@bounded
@given(messages)
def test_the_tag_alone_decides_which_halves_sign(message: bytes) -> None:
    alone = any(message.startswith(tag) for tag in LOCAL_ALONE)
    assert PUBLIC.verify(message, KEY.sign(message, halves="local")) is alone
    assert PUBLIC.verify(message, KEY.sign(message, halves="both")) is not alone


@pytest.mark.parametrize("n", [36, 37, 38, 168, 65535])
def test_any_length_is_bounded_before_a_text_is_read(n: int) -> None:
    with pytest.raises(webauthn.AssertionRefused, match="length"):
        webauthn.split(bytes(128) + n.to_bytes(2) + bytes(37))
