"""Server, relay and SDK take the `traceparent` of docs/protocol.md, section 7, and no other."""

from __future__ import annotations

from typing import Any

from sigil.protocol import trace_context
from sigil.sdk.http import trace_context as of_sdk

from .vectors import cases

CASES = cases("traceparents.json")


def _header(value: Any) -> str | None:
    context = trace_context.parse(value) if isinstance(value, str) else None
    return None if context is None else trace_context.header(context)


def test_every_side_takes_exactly_the_vectors() -> None:
    for read in (_header, of_sdk.valid):
        assert {case["name"]: read(case["value"]) for case in CASES} == {case["name"]: case["expect"] for case in CASES}


def test_the_stored_form_keeps_all_that_counts() -> None:
    valid = [case for case in CASES if case["expect"] is not None]
    assert len(valid) > 15
    for case in valid:
        context = trace_context.parse(case["value"])
        assert context is not None
        assert trace_context.unpack(trace_context.pack(context)) == context
        assert context.sampled == (case["expect"][-1] in "13")


def test_a_member_counts_only_when_it_is_sampled() -> None:
    for case in CASES:
        context = trace_context.sampled(case["value"])
        sampled = (case["expect"] or "00")[-1] in "13"
        assert (None if context is None else trace_context.header(context)) == (case["expect"] if sampled else None)
