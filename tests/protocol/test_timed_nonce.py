"""Stateless nonces: the bytes, which label and secret they are of, and when they are valid."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from relay.registration import nonces as relay_nonces
from sigil.attestation.service import NONCE_LABEL
from sigil.protocol import timed_nonce

SECRET, LABEL, NOW = b"s" * 32, b"label", 1_800_000_000.75


def test_a_nonce_is_time_random_and_mac() -> None:
    nonce = timed_nonce.issue(SECRET, LABEL, NOW, b"r" * 12)
    head = (1_800_000_000).to_bytes(4) + b"r" * 12
    assert nonce == head + hmac.new(SECRET, LABEL + head, hashlib.sha256).digest()[:16]


@pytest.mark.parametrize(
    ("after", "valid"), [(-1.75, True), (-1.76, False), (0, True), (299.24, True), (299.25, False)]
)
def test_it_is_valid_for_five_minutes_with_a_second_for_clocks_that_differ(after: float, valid: bool) -> None:
    nonce = timed_nonce.issue(SECRET, LABEL, NOW, b"r" * 12)
    assert timed_nonce.expiry(SECRET, LABEL, nonce, NOW + after) == (1_800_000_300 if valid else None)


def test_it_is_of_one_secret_and_one_label_and_no_bit_may_change() -> None:
    nonce = timed_nonce.issue(SECRET, LABEL, NOW, b"r" * 12)
    assert timed_nonce.expiry(b"t" * 32, LABEL, nonce, NOW) is None
    assert timed_nonce.expiry(SECRET, b"other", nonce, NOW) is None
    for bit in range(8 * len(nonce)):
        changed = (int.from_bytes(nonce) ^ 1 << bit).to_bytes(len(nonce))
        assert timed_nonce.expiry(SECRET, LABEL, changed, NOW) is None
    for wrong in (b"", nonce[:-1], nonce + b"\0", nonce[:16]):
        assert timed_nonce.expiry(SECRET, LABEL, wrong, NOW) is None


def test_no_use_has_the_label_of_another_or_its_beginning() -> None:
    """The time follows the label, so a label that begins with another one could be confused with it."""
    labels = (NONCE_LABEL, relay_nonces.MAC_LABEL)
    assert not any(first.startswith(second) for first in labels for second in labels if first is not second)
