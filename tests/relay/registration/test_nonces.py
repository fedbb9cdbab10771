"""Stateless nonces: their secret, their labels, their lifetime."""

from __future__ import annotations

import pytest

from relay.app.master import nonce_secret
from relay.config import Config
from relay.registration import nonces
from relay.registration.nonces import NONCE_SECONDS, Nonces, derive_secret
from sigil.protocol.errors import InvalidSignature
from sigil.serving.settings import Secret

NOW = 1_800_000_000


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def issuer(clock: Clock, secret: bytes = b"s" * 32) -> Nonces:
    return Nonces(secret, clock=clock, randomness=lambda length: b"r" * length)


def test_the_secret_and_the_mac_have_labels_of_their_own() -> None:
    assert (nonces.SECRET_LABEL, nonces.MAC_LABEL) == (b"sigil/relay-nonce-secret/v1", b"sigil/relay-nonce/v1")


def test_the_secret_is_an_hmac_of_its_label_under_the_encryption_key() -> None:
    """printf %s sigil/relay-nonce-secret/v1 | openssl dgst -sha256 -hmac <key>"""
    key = "an-encryption-key-of-32-characters-or-more"
    expected = "90dfa7acf83f5323d032b88ec7d65117520e49ee3ddc1d9a71ac353545062cbe"
    assert derive_secret(key.encode()).hex() == expected
    # The newest key counts, so that all replicas agree during a rotation.
    assert nonce_secret(Config(encryption_keys=(Secret(key), Secret("old" * 12)))).hex() == expected


def test_without_an_encryption_key_the_secret_is_random() -> None:
    assert nonce_secret(Config()) != nonce_secret(Config())


def test_a_nonce_is_valid_for_its_lifetime_only() -> None:
    clock = Clock()
    issued = issuer(clock)
    nonce = issued.issue()
    clock.now = NOW + NONCE_SECONDS - 0.1
    assert issued.check(nonce) == NOW + NONCE_SECONDS
    clock.now = NOW + NONCE_SECONDS
    with pytest.raises(InvalidSignature):
        issued.check(nonce)


def test_a_nonce_of_another_secret_or_an_altered_one_is_rejected() -> None:
    clock = Clock()
    nonce = issuer(clock).issue()
    with pytest.raises(InvalidSignature):
        issuer(clock, b"o" * 32).check(nonce)
    for altered in (nonce[:-1], nonce + b"x", bytes([nonce[0] ^ 1]) + nonce[1:]):
        with pytest.raises(InvalidSignature):
            issuer(clock).check(altered)
