"""The `traceparent` of W3C Trace Context, levels 1 and 2, and its 25 bytes in stored rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.protocol.trace_context import RANDOM, SAMPLED, TraceContext, header, of_headers, pack, parse, unpack

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), SAMPLED)
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (GOOD, SAMPLED),
        (f"00-{TRACE}-{SPAN}-00", 0),
        # Level 2: the trace id is random.
        (f"00-{TRACE}-{SPAN}-02", RANDOM),
        (f"00-{TRACE}-{SPAN}-03", SAMPLED | RANDOM),
        # Flags that no level defines are not passed on.
        (f"00-{TRACE}-{SPAN}-ff", SAMPLED | RANDOM),
        # A later version: of its flags only `sampled` is known, and it may append fields.
        (f"01-{TRACE}-{SPAN}-03", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", SAMPLED),
        (f"fe-{TRACE}-{SPAN}-01-", SAMPLED),
    ],
)
def test_a_traceparent_is_parsed(text: str, flags: int) -> None:
    assert parse(text) == CONTEXT._replace(flags=flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        # Version 00 has exactly 55 characters.
        f"{GOOD}-",
        f"{GOOD}-extra",
        f"{GOOD},{GOOD}",
        f"cc-{TRACE}-{SPAN}-01.extra",
        f"cc-{TRACE}-{SPAN}-010",
        f" {GOOD}",
        f"{GOOD} ",
        f"{GOOD}\n",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
    ],
)
def test_a_malformed_traceparent_is_ignored(text: str) -> None:
    assert parse(text) is None


def test_two_headers_are_as_good_as_none() -> None:
    assert of_headers([GOOD]) == CONTEXT
    assert of_headers([]) is None
    assert of_headers([GOOD, GOOD]) is None


def test_the_25_bytes_are_the_flags_the_trace_id_and_the_span_id() -> None:
    assert pack(CONTEXT).hex() == "01" + TRACE + SPAN
    assert unpack(bytes.fromhex("03" + TRACE + SPAN)) == CONTEXT._replace(flags=SAMPLED | RANDOM)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(25),
        bytes.fromhex("01" + TRACE + SPAN)[:-1],
        bytes.fromhex("01" + TRACE + SPAN + "00"),
        bytes.fromhex("01" + "00" * 16 + SPAN),
        bytes.fromhex("01" + TRACE + "00" * 8),
        bytes.fromhex("05" + TRACE + SPAN),
    ],
)
def test_other_bytes_are_no_context(data: bytes) -> None:
    assert unpack(data) is None


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 3))
def test_both_forms_are_read_as_they_were_written(trace_id: bytes, span_id: bytes, flags: int) -> None:
    context = TraceContext(trace_id, span_id, flags)
    expected = context if any(trace_id) and any(span_id) else None
    assert parse(header(context)) == unpack(pack(context)) == expected


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    parse(text)
