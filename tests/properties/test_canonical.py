"""Canonical JSON is RFC 8785, for any document."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.protocol.encoding.canonical import MAX_INTEGER, NotCanonical, canonical

bounded = settings(max_examples=60)

# Where the orders by code point, UTF-8 and UTF-16 differ, and where escapes begin and end.
EDGES = (
    "\0\b\t\n\v\f\r\x1b\x1f !\"'/\\`az{|}~"
    "\x7f\x80\x9f\xa0é߿ࠀ€\u2028\u2029\ud7ff\ue000\ufb33\ufeff\uffff\U00010000\U0001f600\U0010ffff"
)
characters = st.sampled_from(EDGES) | st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=8)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.sampled_from([0, -1, MAX_INTEGER, -MAX_INTEGER])
scalars = st.none() | st.booleans() | integers | texts
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=6), max_leaves=12
)


@bounded
@given(documents)
def test_canonical_equals_the_reference_library(document: Any) -> None:
    assert canonical(document) == rfc8785.dumps(document)


@bounded
@given(st.dictionaries(texts, st.integers(0, 9), min_size=2, max_size=12))
def test_members_are_in_the_order_of_their_utf_16_code_units(document: dict[str, int]) -> None:
    names = list(json.loads(canonical(document)))
    assert names == sorted(document, key=lambda name: name.encode("utf-16-be"))


@bounded
@given(documents)
def test_values_parsed_from_canonical_bytes_have_the_same_bytes_again(document: Any) -> None:
    once = canonical(document)
    read = json.loads(once)
    assert read == document
    assert canonical(read) == once


@bounded
@given(st.dictionaries(texts, scalars, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(document: dict[str, Any], random: Any) -> None:
    names = list(document)
    random.shuffle(names)
    assert canonical({name: document[name] for name in names}) == canonical(document)


def test_every_character_of_ascii_is_escaped_as_rfc_8785_does() -> None:
    for code in range(0x80):
        for document in (chr(code), {chr(code): chr(code)}):
            assert canonical(document) == rfc8785.dumps(document)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Members(dict[str, Any]):
    pass


UNFIT = [
    *(0.0, -0.0, 1.0, 1.5, 1e300, float("nan"), float("inf"), float("-inf")),
    *(MAX_INTEGER + 1, -MAX_INTEGER - 1, 10**400, "\ud800", "\udc00", "a\ud83d", "\ud83d\ude00"),
    *(b"bytes", bytearray(b"x"), (1, 2), {1}, frozenset(), object(), 1j, Colour.RED, Level.ONE, Text("x"), Members()),
]


@pytest.mark.parametrize("value", UNFIT, ids=lambda value: ascii(value)[:30].partition(" at 0x")[0])
def test_a_value_without_canonical_form_is_rejected_at_every_depth(value: Any) -> None:
    for document in (value, [value], {"x": value}, [[], {"a": [1, {"é": value}]}]):
        with pytest.raises(NotCanonical):
            canonical(document)


@pytest.mark.parametrize("name", [1, None, True, 1.5, b"x", (), Colour.RED, Text("x"), "\ud800", "é\udfff"], ids=ascii)
def test_a_name_that_is_no_plain_string_is_rejected(name: Any) -> None:
    for document in ({name: 1}, {"a": {name: 1}}, [{"é": 1, name: 2}]):
        with pytest.raises(NotCanonical):
            canonical(document)


def test_cyclic_and_very_deep_documents_are_rejected() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    wide: dict[str, Any] = {}
    wide["é"] = wide
    for document in (endless, deep, wide):
        with pytest.raises(NotCanonical):
            canonical(document)
    while isinstance(deep, list):  # taken apart by hand: freeing it in one go nests as deep
        deep = deep.pop()
