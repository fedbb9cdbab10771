"""The JavaScript core gives every shared vector, and random texts, the result that Python gives them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.protocol.encoding import strict_json, unicode_tables
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.display_text import problem_of
from sigil.protocol.encoding.pictogram import speakable
from sigil.protocol.encoding.text import decode_base64url
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import P256_ORDER
from sigil.protocol.web_push import parse as parse_push_token
from sigil.protocol.webauthn import MAX_SIGNATURE
from tests.support import firefox
from tests.support.web_key import WebKey

from . import expectations
from .modules import RUN, Judge, StaticFiles

EXAMPLES = settings(max_examples=50, derandomize=True, deadline=None, database=None)
# Every class of docs/protocol.md, 2.5, and their neighbours.
_CHARACTERS = st.one_of(
    st.sampled_from(
        "a 1#*é日ا\u0628ک\u094dक\u0d4d\u0301\u0300\u20e3\u200b\u200c\u200d\ufe0e\ufe0f\u2800"
        "\u00ad\u202e☺❤👩🏽🚀\U000e0041\n\t"
    ),
    st.characters(exclude_categories=("Cs",)),
)
_TEXTS = st.text(_CHARACTERS, max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_TEXTS | st.sampled_from(["2", "10", "__proto__"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", expectations.ALL)
def test_every_vector_gives_the_result_of_python(judge: Judge, kind: str) -> None:
    assert expectations.ALL[kind](judge) == {}


def test_every_vector_gives_the_result_of_python_in_firefox(files: StaticFiles) -> None:
    """It has another WebCrypto, and other regular expressions."""
    if firefox.executable() is None:
        pytest.skip("there is no Firefox: `make test-deps` installs it")
    with firefox.Firefox({}) as browser:
        browser.navigate(files.url)

        def judge(kind: str, cases: list[Any]) -> list[Any]:
            outcomes: list[Any] = browser.evaluate(f"return await ({RUN})(arguments[0])", [kind, cases])
            return outcomes

        assert {kind: found for kind, run in expectations.ALL.items() if (found := run(judge))} == {}


def test_sha256_is_that_of_fips_180_4(judge: Judge) -> None:
    # Around the lengths at which another block begins.
    for ours, theirs in judge("bothHashes", [*range(130), 4096, 70_001]):
        assert ours == theirs
    texts = [b"", b"abc", b"a" * 1000]
    assert judge("hashes", [text.hex() for text in texts]) == [hashlib.sha256(text).hexdigest() for text in texts]


def test_the_unicode_tables_are_those_of_python(judge: Judge) -> None:
    names = [name for name in vars(unicode_tables) if name.isupper() and name != "UNICODE_VERSION"]
    for name, ranges in zip(names, judge("unicode", names), strict=True):
        assert ranges.split() == getattr(unicode_tables, name).split(), name
    assert judge("unicode", ["UNICODE_VERSION"]) == [unicode_tables.UNICODE_VERSION]


@EXAMPLES
@given(texts=st.lists(_TEXTS, min_size=20, max_size=20))
def test_a_text_is_displayable_where_it_is_in_python(judge: Judge, texts: list[str]) -> None:
    assert judge("displayable", texts) == [problem_of(text) is None for text in texts]


JOINED = [
    "क\u094d\u200d☺\ufe0e",
    "क\u094d\u200d☺\ufe0f",
    "☺\ufe0e",
    "☺\u200d☺\ufe0e",
    "a\u094d\u200d\u0301",
    "#\ufe0f\u20e3",
]


def test_a_joiner_counts_across_two_units_as_in_python(judge: Judge) -> None:
    wanted = [problem_of(text) is None for text in JOINED]
    assert set(wanted) == {True, False}
    assert judge("displayable", JOINED) == wanted


def _canonical(text: bytes) -> str:
    try:
        return canonical(strict_json.parse(text)).decode()
    except InvalidRequest:
        return "NotStrictJson"
    except NotCanonical:
        return "NotCanonical"


@EXAMPLES
@given(values=st.lists(_VALUES, min_size=5, max_size=5))
def test_json_has_the_canonical_text_of_python(judge: Judge, values: list[Any]) -> None:
    texts = [_with_blanks(value) for value in values]
    assert judge("canonical", texts) == [_canonical(text.encode()) for text in texts]


def _with_blanks(value: Any) -> str:
    """JSON with blanks, in the order of the value, as Python's json writes it."""
    return json.dumps(value, ensure_ascii=False)


STRICT = [
    '{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', '[{"a":1,"\\u0061":2}]', '"\\ud800"', '"\\ud83d\\ude00"',
    '"\\ude00\\ud83d"',
    "-0", "0", "-1", "01", "1.0", "1e3", "1E400", "9007199254740991", "9007199254740992", "-9007199254740993", "NaN",
    "Infinity", "nul", "nulll", "true", "[1,]", "[,1]", "{,}", '{"a":1,}', '{"a"}', "{a:1}", "'a'", '"a', '"\t"',
    '"\\x"', '"\\u12g4"', '"\u007f"', "[1 2]", "1 1", "", " ", "\ufeff1", "\u00a01", "\x0c1", "// 1", "[]]", "+1", ".5",
    "1.", "--1", "\t[ 1 , { \"a\" : [ ] } ]\r\n", '{"":""}', '{"__proto__":1,"constructor":2,"10":3,"9":4}',
    "[" * 60 + "]" * 60,
]  # fmt: skip


def test_json_is_as_strict_as_pythons(judge: Judge) -> None:
    got = judge("canonical", STRICT)
    assert expectations.differing(STRICT, [_canonical(text.encode()) for text in STRICT], got) == {}


def test_json_nested_deeper_than_any_message_is_rejected(judge: Judge) -> None:
    texts = ["[" * depth + "]" * depth for depth in (64, 65, 100_000)]
    assert judge("canonical", texts) == [texts[0], "NotStrictJson", "NotStrictJson"]


def test_members_keep_their_order_and_their_text(judge: Judge) -> None:
    text = '{"10": [1, "\\u0061"], "9" :{ "b":1 },"__proto__":-0 }'
    want = [["10", '[1, "\\u0061"]'], ["9", '{ "b":1 }'], ["__proto__", "-0"]]
    assert judge("memberTexts", [text]) == [want]


def test_a_pictogram_has_the_names_of_python(judge: Judge) -> None:
    prints = [hashlib.sha256(bytes([seed])).hexdigest() for seed in range(40)]
    assert judge("pictograms", prints) == [speakable(print_).split() for print_ in prints]


@EXAMPLES
@given(texts=st.lists(st.text("AZaz09-_+/= Q", max_size=9), min_size=20, max_size=20))
def test_base64url_has_the_one_spelling_of_python(judge: Judge, texts: list[str]) -> None:
    def want(text: str) -> list[str] | None:
        found = decode_base64url(text)
        return None if found is None else [found.hex(), text]

    assert judge("base64urls", texts) == [want(text) for text in texts]


DER = {
    "honest": ("300602010102017f", (1, 0x7F)),
    "r of 33 bytes with a sign": (encode_dss_signature(P256_ORDER - 1, 1).hex(), (P256_ORDER - 1, 1)),
    "s in the upper half": (encode_dss_signature(5, P256_ORDER - 5).hex(), (5, P256_ORDER - 5)),
    "r of 0": ("3006020100020101", None),
    "s of 0": ("3006020101020100", None),
    "r of n": (encode_dss_signature(P256_ORDER, 1).hex(), None),
    "r negative": ("3006020181020101", None),
    "r padded": ("300702020001020101", None),
    "r of 33 bytes without a sign": ("3026" + "0221" + "01" * 33 + "020101", None),
    "an empty integer": ("30050200020101", None),
    "a long form of a length": ("3081060201010201" + "01", None),
    "another tag": ("3106020101020101", None),
    "another tag inside": ("3006030101020101", None),
    "too short": ("300602010102", None),
    "bytes after": ("300602010102010100", None),
    "bytes after, counted": ("300702010102010100", None),
    "a length beyond the end": ("3006020101020901", None),
    "r alone": ("3003020101", None),
    "nothing": ("", None),
}


def test_a_signature_in_der_has_one_form(judge: Judge) -> None:
    wanted = [pair and (pair[0].to_bytes(32) + pair[1].to_bytes(32)).hex() for _, pair in DER.values()]
    got = judge("ders", [der for der, _ in DER.values()])
    assert expectations.differing(list(DER), wanted, got) == {}


def test_a_web_key_has_the_bytes_of_python(judge: Judge) -> None:
    for origin in ("https://sigil.example.com", "https://sigil.example.com:8443", "http://localhost:8440"):
        wire = WebKey(origin).wire
        parts = {"assertion": wire[4:37].hex(), "local": wire[37:70].hex(), "origin": origin}
        assert judge("webKeys", [parts]) == [wire.hex()]


def test_a_web_signature_is_at_most_as_long_as_python_takes_it(judge: Judge) -> None:
    rest = MAX_SIGNATURE - 130 - 37
    assert judge("webSizes", [[37, rest], [37, rest + 1], [70_000, 1]]) == [MAX_SIGNATURE, None, None]


POINT = (
    "04"
    + "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    + ("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
)  # The generator of P-256, FIPS 186-4, D.1.2.3.
PUSH = {
    "app": "https://sigil.example.com/device/",
    "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
    "auth": "0f" * 16,
    "key": POINT,
    "p256dh": POINT,
}
BAD_PUSH = [
    {"endpoint": "http://push.example.com/a"}, {"endpoint": "https://push.example.com:8443/a"},
    {"endpoint": "https://u@push.example.com/a"}, {"endpoint": "https://push.example.com./a"},
    {"endpoint": "https://PUSH.example.com/a"}, {"endpoint": "https://10.0.0.1/a"}, {"endpoint": "https://[::1]/a"},
    {"endpoint": "https://push.example.com/a#b"}, {"endpoint": "https://push.example.com/a\\b"},
    {"endpoint": "https://push.example.com/" + "a" * 1024}, {"endpoint": "https://push.example.com/ä"},
    {"app": "http://sigil.example.com/device/"}, {"app": "https://sigil.example.com/device/#x"},
    {"app": "https://u@sigil.example.com/"}, {"app": "https://sigil.example.com:443/device/"},
    {"app": "https://sigil.example.com/" + "a" * 512}, {"auth": "0f" * 15}, {"key": "02" + "6b" * 32},
    {"p256dh": POINT[:-2]},
]  # fmt: skip


def test_a_push_token_is_the_text_that_the_relay_parses(judge: Judge) -> None:
    apps = [PUSH, {**PUSH, "app": "http://localhost:8440/device/"}]
    for given_parts, text in zip(apps, judge("pushTokens", apps), strict=True):
        token = parse_push_token(text)
        assert (token.app, token.endpoint) == (given_parts["app"], given_parts["endpoint"])
        assert (token.auth.hex(), token.key.hex(), token.p256dh.hex()) == ("0f" * 16, POINT, POINT)
    assert judge("pushTokens", [{**PUSH, **bad} for bad in BAD_PUSH]) == ["PUSH_TOKEN_MALFORMED"] * len(BAD_PUSH)
