"""Android's status list: its strict form, serial numbers in both notations, and its age."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.attestation.certificates.status_list import MAX_BYTES, OLD_SECONDS, UnusableStatusList, parse

DAY = 86_400


def content(entries: dict[str, str]) -> bytes:
    return json.dumps({"entries": {serial: {"status": status} for serial, status in entries.items()}}).encode()


@pytest.mark.parametrize("status", ["REVOKED", "SUSPENDED"])
def test_a_listed_certificate_is_refused(status: str) -> None:
    found = parse(content({"c35747a084470c3135aeefe2b8d40cd6": status}), 0)
    assert found.revoked("c35747a084470c3135aeefe2b8d40cd6")
    assert not found.revoked("c35747a084470c3135aeefe2b8d40cd7")


def test_a_serial_is_compared_as_lower_case_hex_without_leading_zeros() -> None:
    found = parse(content({"00AB12": "REVOKED", "0": "REVOKED"}), 0)
    assert found.revoked("ab12")
    assert found.revoked("0")
    assert not found.revoked("00ab12")


def test_an_entry_of_digits_counts_as_decimal_and_as_hex() -> None:
    """The published list has 6681152659205225093, the decimal form of 5cb838f1fe157a85."""
    found = parse(content({"6681152659205225093": "REVOKED"}), 0)
    assert found.revoked("5cb838f1fe157a85")
    assert found.revoked("6681152659205225093")
    assert found.entries == 1


def test_a_serial_that_is_listed_twice_is_refused() -> None:
    twice = b'{"entries": {"ab": {"status": "REVOKED"}, "ab": {"status": "SUSPENDED", "expires": "2020-11-13"}}}'
    assert parse(twice, 0).revoked("ab")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{}", b"[]", b"null", b"<html>", b'{"entries": []}', b'{"entries": {}}',
        b'{"entries": {"ab": "REVOKED"}}', b'{"entries": {"ab": {}}}', b'{"entries": {"ab": {"status": null}}}',
        b'{"entries": {"ab": {"status": "GOOD"}}}',
        b'{"entries": {"xy": {"status": "REVOKED"}}}', b'{"entries": {"": {"status": "REVOKED"}}}',
        b'{"entries": {"-1": {"status": "REVOKED"}}}', b'{"entries": {"0x1": {"status": "REVOKED"}}}',
        '{"entries": {"\u0661": {"status": "REVOKED"}}}'.encode(), b'{"entries": {"ab": {"status": "REVOKED"}}} x',
        b'{"entries": {"' + b"a" * 65 + b'": {"status": "REVOKED"}}}', b'{"entries": {"ab": {"status": "REVOKED"}}',
        b"\xff\xfe", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_list_of_another_form_is_not_used(text: bytes) -> None:
    with pytest.raises(UnusableStatusList):
        parse(text, 0)


def test_a_list_has_at_most_8_mib() -> None:
    text = content({"ab": "REVOKED"})
    assert parse(text + b" " * (MAX_BYTES - len(text)), 0).revoked("ab")
    with pytest.raises(UnusableStatusList, match="larger than 8 MiB"):
        parse(text + b" " * (MAX_BYTES + 1 - len(text)), 0)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(msgspec.json.encode))
def test_no_content_raises_another_error(text: bytes) -> None:
    with contextlib.suppress(UnusableStatusList):
        parse(text, 0)


def test_the_age_counts_from_when_the_list_was_known_to_be_the_present_one() -> None:
    found = parse(content({"ab": "REVOKED"}), known_at=1000)
    assert found.age(1000 + DAY) == DAY
    assert found.age(500) == 0
    assert not found.is_old(1000 + OLD_SECONDS)
    assert found.is_old(1001 + OLD_SECONDS)
    assert OLD_SECONDS == 30 * DAY


def test_the_text_of_an_error_quotes_nothing() -> None:
    with pytest.raises(UnusableStatusList) as raised:
        parse(b'{"entries": {"evil-serial": {"status": "REVOKED"}}}', 0)
    assert "evil" not in str(raised.value)
