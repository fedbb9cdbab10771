"""Sealed values open only for their own device and use, with a known key, and unaltered."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from relay.config import load_storage
from relay.registry.sealing import OVERHEAD, Sealer, Unsealable
from sigil.serving.settings import ConfigError

NEW = "new-key-0123456789abcdef0123456789abcdef"
OLD = "old-key-0123456789abcdef0123456789abcdef"
OTHER = "other-key-0123456789abcdef0123456789abcd"
DEVICE = bytes(range(32))
NEIGHBOUR = bytes(range(1, 33))
TOKEN = b"740f4707bebcf74f"

VECTOR = bytes.fromhex(
    "010784b632000102030405060708090a0b0c0d0e0f1011121314151617eb8d33d461963738eb8ebca0183fc2b53dd5dbe05c9e24"
)
"""b"a token" of DEVICE on apns, sealed with VECTOR_KEY: values in a database stay readable."""
VECTOR_KEY = "correct horse battery staple 32 or more"


def hkdf(key: str, info: bytes, length: int) -> bytes:
    """RFC 5869 with one block, by hand."""
    extracted = hmac.digest(bytes(32), key.encode(), hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:length]


def test_a_sealed_value_opens() -> None:
    sealer = Sealer([NEW])
    for value in (b"", b"x", TOKEN, bytes(5000)):
        sealed = sealer.seal("token", DEVICE, "apns", value)
        assert sealer.open("token", DEVICE, "apns", sealed) == value
        assert len(sealed) == len(value) + OVERHEAD
        assert len(value) < 8 or value not in sealed


def test_two_seals_of_one_value_differ() -> None:
    sealer = Sealer([NEW])
    assert len({sealer.seal("token", DEVICE, "apns", TOKEN) for _ in range(100)}) == 100


def test_a_value_of_an_earlier_version_opens() -> None:
    assert Sealer([VECTOR_KEY]).open("token", DEVICE, "apns", VECTOR) == b"a token"


def test_a_sealed_value_has_the_documented_format() -> None:
    head, nonce, ciphertext = VECTOR[:5], VECTOR[5:29], VECTOR[29:]
    assert head == b"\x01" + hkdf(VECTOR_KEY, b"sigil-relay/seal-id/v1", 4)
    key = hkdf(VECTOR_KEY, b"sigil-relay/seal/v1", 32)
    associated_data = head + b"\x05token" + DEVICE + b"apns"
    assert crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated_data, nonce, key) == b"a token"


@pytest.mark.parametrize(
    ("purpose", "fingerprint", "platform"),
    [
        ("payload", DEVICE, "apns"),
        ("token", NEIGHBOUR, "apns"),
        ("token", DEVICE, "fcm"),
        ("token", DEVICE, ""),
        ("token", DEVICE, "apns "),
    ],
    ids=["purpose", "fingerprint", "platform", "no platform", "longer platform"],
)
def test_a_value_that_was_moved_does_not_open(purpose: str, fingerprint: bytes, platform: str) -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("token", DEVICE, "apns", TOKEN)
    with pytest.raises(Unsealable):
        sealer.open(purpose, fingerprint, platform, sealed)  # type: ignore[arg-type]


def test_tokens_of_two_devices_cannot_be_swapped() -> None:
    sealer = Sealer([NEW])
    mine, theirs = sealer.seal("token", DEVICE, "fcm", b"mine"), sealer.seal("token", NEIGHBOUR, "fcm", b"theirs")
    for fingerprint, sealed in ((DEVICE, theirs), (NEIGHBOUR, mine)):
        with pytest.raises(Unsealable):
            sealer.open("token", fingerprint, "fcm", sealed)


def test_every_flipped_bit_is_detected() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("token", DEVICE, "apns", TOKEN)
    for place in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[place] ^= 1 << bit
            with pytest.raises(Unsealable):
                sealer.open("token", DEVICE, "apns", bytes(altered))


def test_every_truncated_or_longer_value_is_detected() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("token", DEVICE, "apns", TOKEN)
    for altered in [sealed[:length] for length in range(len(sealed))] + [sealed + b"\x00", sealed[1:]]:
        with pytest.raises(Unsealable):
            sealer.open("token", DEVICE, "apns", altered)


def test_keys_rotate() -> None:
    before, during, after = Sealer([OLD]), Sealer([NEW, OLD]), Sealer([NEW])
    old = before.seal("token", DEVICE, "apns", TOKEN)
    assert not before.needs_reseal(old)
    assert during.open("token", DEVICE, "apns", old) == TOKEN
    assert during.needs_reseal(old)
    new = during.seal("token", DEVICE, "apns", TOKEN)
    assert not during.needs_reseal(new)
    assert after.open("token", DEVICE, "apns", new) == TOKEN
    with pytest.raises(Unsealable, match="unknown key"):
        after.open("token", DEVICE, "apns", old)


def test_another_key_with_the_same_id_does_not_open() -> None:
    """Ids have 32 bits: two keys with the same id can be found."""
    sealer, other = Sealer([NEW]), Sealer([OTHER])
    sealed = bytearray(sealer.seal("token", DEVICE, "apns", TOKEN))
    sealed[1:5] = other.seal("token", DEVICE, "apns", b"")[1:5]
    with pytest.raises(Unsealable):
        other.open("token", DEVICE, "apns", bytes(sealed))


def test_without_a_key_values_are_marked_as_plain_and_a_later_key_reads_them() -> None:
    plain, later = Sealer([]), Sealer([NEW], reads_plain=True)
    value = plain.seal("token", DEVICE, "apns", TOKEN)
    assert value == b"\x00" + TOKEN
    assert not plain.needs_reseal(value)
    assert plain.open("token", DEVICE, "apns", value) == later.open("token", DEVICE, "apns", value) == TOKEN
    assert later.needs_reseal(value)
    assert not later.needs_reseal(later.seal("token", DEVICE, "apns", TOKEN))


def test_plain_values_are_rejected_unless_the_database_began_without_a_key() -> None:
    with pytest.raises(Unsealable):
        Sealer([NEW]).open("token", DEVICE, "apns", b"\x00" + TOKEN)


def test_a_sealed_value_does_not_open_without_its_key() -> None:
    with pytest.raises(Unsealable, match="unknown key"):
        Sealer([]).open("token", DEVICE, "apns", Sealer([NEW]).seal("token", DEVICE, "apns", TOKEN))


def test_a_fingerprint_of_another_length_is_an_error() -> None:
    """Its end could be read as the beginning of the platform."""
    sealer = Sealer([NEW])
    for fingerprint in (b"", DEVICE[:31], DEVICE + b"a"):
        with pytest.raises(ValueError, match="32 bytes"):
            sealer.seal("token", fingerprint, "apns", TOKEN)


def test_the_setting_names_keys_newest_first() -> None:
    for text, keys in ((NEW, [NEW]), (f"{NEW}, {OLD}\n", [NEW, OLD]), ("ü" * 32, ["ü" * 32])):
        storage = load_storage({"TOKEN_ENCRYPTION_KEY": text})
        assert [key.reveal() for key in storage.encryption_keys] == keys


@pytest.mark.parametrize("text", ["short", NEW[:31], f"{NEW},short", f"{NEW},{NEW}", f"{NEW},{OLD},{'a' * 32}"])
def test_a_setting_that_is_not_a_list_of_keys_is_rejected_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="TOKEN_ENCRYPTION_KEY: must be one key, or new,old") as rejected:
        load_storage({"TOKEN_ENCRYPTION_KEY": text})
    assert text not in str(rejected.value)


def test_no_secret_appears_in_messages_and_representations() -> None:
    sealer = Sealer([NEW, OLD])
    shown = repr(sealer) + str(sealer)
    sealed = sealer.seal("token", DEVICE, "apns", TOKEN)
    with pytest.raises(Unsealable) as rejected:
        sealer.open("token", NEIGHBOUR, "apns", sealed)
    shown += repr(rejected.value) + repr(rejected.value.__cause__) + repr(rejected.value.__context__)
    for secret in (NEW, OLD, TOKEN.decode(), TOKEN.hex(), hkdf(NEW, b"sigil-relay/seal/v1", 32).hex()):
        assert secret not in shown
    assert shown.startswith("Sealer(2 keys)")
