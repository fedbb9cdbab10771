"""The three signature suites (docs/protocol.md, 2.1)."""

from __future__ import annotations

import hashlib
import pickle

import pytest

from sigil.protocol.errors import InvalidPublicKey
from sigil.protocol.keys import P256_ORDER, SECP256K1_ORDER, SUITES, PrivateKey, PublicKey, Suite

from .vectors import Case, mismatches

ORDERS: dict[Suite, int] = {"ES256": P256_ORDER, "ES256K": SECP256K1_ORDER}
SECRET = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")


def _suite(case: Case) -> Case:
    wire = bytes.fromhex(case["public_key"])
    try:
        key = PublicKey.parse(wire)
    except InvalidPublicKey as error:
        return {"expect": error.code, **error.details}
    assert (key.wire, key.fingerprint) == (wire, hashlib.sha256(wire).hexdigest())
    return {"expect": key.suite}


def test_every_public_key_is_accepted_or_rejected() -> None:
    assert mismatches("keys.json", _suite) == {}


def test_a_rejected_key_is_rejected_again() -> None:
    """Loaded keys are cached: an error must not be."""
    for _ in range(2):
        assert mismatches("keys.json", _suite) == {}


def _verified(case: Case) -> Case:
    wire, message, signature = (bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))
    try:
        return {"expect": PublicKey.parse(wire).verify(message, signature)}
    except InvalidPublicKey as error:
        return {"expect": error.code}


def test_every_signature_is_accepted_or_rejected() -> None:
    assert mismatches("signatures.json", _verified) == {}


@pytest.mark.parametrize("suite", SUITES)
def test_signatures_are_deterministic(suite: Suite) -> None:
    first, second = PrivateKey.load(suite, SECRET), PrivateKey.load(suite, SECRET)
    assert first.sign(b"message") == first.sign(b"message") == second.sign(b"message")
    assert first.sign(b"message") != first.sign(b"message\0")


@pytest.mark.parametrize("suite", ORDERS)
def test_signatures_have_low_s(suite: Suite) -> None:
    key, order = PrivateKey.load(suite, SECRET), ORDERS[suite]
    for number in range(64):
        signature = key.sign(number.to_bytes(2))
        assert len(signature) == 64
        assert 0 < int.from_bytes(signature[32:]) <= order // 2
        assert key.public.verify(number.to_bytes(2), signature)


@pytest.mark.parametrize("suite", SUITES)
def test_both_halves_of_s_have_one_normal_form(suite: Suite) -> None:
    key, order = PrivateKey.load(suite, SECRET), ORDERS.get(suite)
    signature = key.sign(b"message")
    assert key.public.normalised(signature) == signature
    if order is not None:
        upper = signature[:32] + (order - int.from_bytes(signature[32:])).to_bytes(32)
        assert key.public.verify(b"message", upper)
        assert key.public.normalised(upper) == signature


def test_es256_signs_as_rfc_6979_does_but_for_the_half_of_s() -> None:
    """RFC 6979 A.2.5, SHA-256, message "sample": its s is in the upper half."""
    r = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    s = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
    key = PrivateKey.load("ES256", SECRET)
    assert key.sign(b"sample") == r.to_bytes(32) + (P256_ORDER - s).to_bytes(32)
    assert key.public.verify(b"sample", r.to_bytes(32) + s.to_bytes(32))


def test_ed25519_signs_as_rfc_8032_does() -> None:
    """RFC 8032 7.1, TEST 2."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = PrivateKey.load("Ed25519", seed)
    assert key.public.wire.hex() == "ed013d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_private_key_of_another_length_is_rejected(suite: Suite, length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey.load(suite, b"\1" * length)


@pytest.mark.parametrize("suite", ORDERS)
def test_a_scalar_is_from_1_to_n_minus_1(suite: Suite) -> None:
    order = ORDERS[suite]
    for good in (1, 2, order - 1):
        key = PrivateKey.load(suite, good.to_bytes(32))
        assert key.public.verify(b"m", key.sign(b"m"))
    for bad in (0, order, order + 1, 2**256 - 1):
        with pytest.raises(ValueError, match=r"1\.\.n-1") as raised:
            PrivateKey.load(suite, bad.to_bytes(32))
        assert str(bad) not in str(raised.value)


@pytest.mark.parametrize("suite", SUITES)
def test_one_flipped_bit_anywhere_invalidates_a_signature(suite: Suite) -> None:
    key = PrivateKey.load(suite, SECRET)
    signature = key.sign(b"message")
    for bit in range(0, 512, 7):
        spoilt = bytearray(signature)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert not key.public.verify(b"message", bytes(spoilt))


def test_one_scalar_has_another_fingerprint_in_each_suite() -> None:
    keys = [PrivateKey.load(suite, SECRET).public for suite in SUITES]
    assert len({key.fingerprint for key in keys}) == len({key.wire for key in keys}) == 3


def test_public_keys_are_equal_when_their_bytes_are() -> None:
    first, second = PrivateKey.load("ES256", SECRET).public, PrivateKey.load("ES256K", SECRET).public
    again = PublicKey.parse(bytes(first.wire))
    assert first == again
    assert hash(first) == hash(again)
    assert first != second
    assert first != first.wire


@pytest.mark.parametrize("suite", SUITES)
def test_the_repr_of_a_private_key_shows_no_secret(suite: Suite) -> None:
    key = PrivateKey.load(suite, SECRET)
    shown = [repr(key), str(key), f"{key}", repr([key]), repr({"key": key})]
    try:
        shown.append(repr(pickle.loads(pickle.dumps(key))))  # noqa: S301
    except TypeError as error:  # what the libraries hold cannot be pickled
        shown.append(str(error))
    for text in shown:
        assert SECRET.hex() not in text.lower()
        assert repr(SECRET)[2:-1] not in text
        assert str(int.from_bytes(SECRET)) not in text
    assert key.public.fingerprint[:6] in repr(key)
