"""RFC 8291: its own example to the byte, and a second implementation that opens what the relay encrypts."""

from __future__ import annotations

import os

import http_ece
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec

from relay.transports.webpush.encryption import MAX_PADDED, Recipient, encrypt
from relay.web_push_settings import new_key, vapid_key
from sigil.protocol.encoding.text import decode_base64url
from tests.support.web_push import Subscription

KEY = vapid_key(new_key()).public_text


def raw(text: str) -> bytes:
    data = decode_base64url(text)
    assert data is not None
    return data


def test_the_example_of_the_rfc_to_the_byte() -> None:
    """RFC 8291, section 5 and appendix A: the content has no padding but its delimiter."""
    sender = ec.derive_private_key(int.from_bytes(raw("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), ec.SECP256R1())
    recipient = Recipient.of(
        raw("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        raw("BTBZMqHH6r4Tts7J_aSIgg"),
    )
    content = b"When I grow up, I want to be a watermelon"
    body = encrypt(content, recipient, sender, raw("DGv6ra1nlYgDCS1FRnbzlw"), len(content) + 1)
    assert body == raw(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
        "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def encrypted(subscription: Subscription, content: bytes, padded_to: int) -> bytes:
    recipient = Recipient.of(subscription.public, subscription.auth)
    return encrypt(content, recipient, ec.generate_private_key(ec.SECP256R1()), os.urandom(16), padded_to)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 327, 1022, 1023])
def test_another_implementation_opens_every_length_and_all_bodies_are_equal_in_size(length: int) -> None:
    subscription, content = Subscription(KEY), os.urandom(length)
    body = encrypted(subscription, content, 1024)
    assert len(body) == 86 + 1024 + 16
    assert subscription.decrypt(body) == content
    # Zeros alone: a content may end in them, and in the delimiter.
    assert subscription.decrypt(encrypted(subscription, b"\x02\x00", 1024)) == b"\x02\x00"


def test_a_body_of_the_largest_size_has_4096_bytes_and_is_one_record() -> None:
    subscription, content = Subscription(KEY), os.urandom(MAX_PADDED - 1)
    body = encrypted(subscription, content, MAX_PADDED)
    assert (len(body), subscription.decrypt(body)) == (4096, content)


@pytest.mark.parametrize(("length", "padded_to"), [(1024, 1024), (2000, 1024), (0, 0), (1, MAX_PADDED + 1)])
def test_what_does_not_fit_is_no_body(length: int, padded_to: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encrypted(Subscription(KEY), bytes(length), padded_to)


def test_no_two_bodies_are_equal_and_a_changed_one_does_not_open() -> None:
    subscription = Subscription(KEY)
    one, two = (encrypted(subscription, b"same", 1024) for _ in range(2))
    assert one[:16] != two[:16]
    assert one[21:86] != two[21:86]
    with pytest.raises((http_ece.ECEException, InvalidTag)):
        subscription.decrypt(one[:-1] + bytes([one[-1] ^ 1]))
    with pytest.raises((http_ece.ECEException, InvalidTag)):
        Subscription(KEY).decrypt(one)


def test_a_point_that_is_not_on_the_curve_is_no_recipient() -> None:
    with pytest.raises(ValueError, match=r"EC key|curve"):
        Recipient.of(b"\x04" + b"\x01" * 64, bytes(16))
