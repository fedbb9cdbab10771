"""Signatures of webhook events (docs/protocol.md, 5.4)."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from sigil.protocol import webhook

BODY = b'{"id":"evt_1","type":"challenge.verified"}'


def test_the_sigil_signature_is_hex_over_timestamp_and_body() -> None:
    tag = hmac.new(b"k" * 32, b"1777026735." + BODY, hashlib.sha256).hexdigest()
    assert webhook.sigil_signature("k" * 32, "1777026735", BODY) == f"v1,{tag}"


def test_the_standard_signature_is_base64_over_id_timestamp_and_body() -> None:
    tag = hmac.new(b"k" * 32, b"evt_1.1777026735." + BODY, hashlib.sha256).digest()
    assert webhook.standard_signature("k" * 32, "evt_1", "1777026735", BODY) == "v1," + base64.b64encode(tag).decode()


def test_the_example_of_standard_webhooks_holds() -> None:
    """The signed message and secret that the Standard Webhooks libraries test with."""
    signature = webhook.standard_signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_whsec_secret_signs_as_the_bytes_that_it_spells() -> None:
    plain = "a secret of more than 32 characters"
    spelled = "whsec_" + base64.b64encode(plain.encode()).decode()
    given = ("evt_1", "1777026735", BODY)
    assert webhook.standard_signature(spelled, *given) == webhook.standard_signature(plain, *given)
    assert webhook.sigil_signature(spelled, *given[1:]) != webhook.sigil_signature(plain, *given[1:])


@pytest.mark.parametrize("rest", ["!", "YQ=", "Y", "YQ==YQ==", "é", "_-_-", "YQ ==", "YQ==\n"], ids=ascii)
def test_the_error_of_a_malformed_whsec_secret_does_not_contain_it(rest: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the message is tested
        webhook.standard_signature(f"whsec_{rest}", "evt_1", "1", BODY)
    assert f"whsec_{rest}" not in str(raised.value)


def test_a_secret_beyond_ascii_signs_as_utf_8() -> None:
    tag = hmac.new("clé 鍵".encode(), b"1.", hashlib.sha256).hexdigest()
    assert webhook.sigil_signature("clé 鍵", "1", b"") == f"v1,{tag}"
