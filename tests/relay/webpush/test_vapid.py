"""RFC 8292: the token of the relay, for one origin and key, and how long it is used."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from relay.transports.webpush.vapid import VapidTokens
from relay.web_push_settings import new_key, vapid_key
from sigil.protocol.encoding.text import decode_base64url

ORIGIN = "https://web.push.apple.com"
KEY = vapid_key(new_key())


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def parts(header: bytes) -> tuple[str, str]:
    scheme, token, key = header.decode().split(" ")
    assert scheme == "vapid"
    return token.removeprefix("t=").removesuffix(","), key.removeprefix("k=")


def claims(header: bytes) -> dict[str, Any]:
    """Verified with the key that the header itself names, as a push service does."""
    token, key = parts(header)
    public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), decode_base64url(key) or b"")
    found: dict[str, Any] = jwt.decode(
        token, public, ["ES256"], options={"verify_exp": False, "verify_aud": False, "verify_sub": False}
    )
    return found


def test_the_token_names_its_origin_its_end_and_the_contact(clock: Clock) -> None:
    header = VapidTokens("mailto:ops@sigil-relay.net", clock).header(KEY, ORIGIN)
    assert claims(header) == {"aud": ORIGIN, "exp": int(clock.now) + 12 * 3600, "sub": "mailto:ops@sigil-relay.net"}
    token, key = parts(header)
    assert key == KEY.public_text
    assert json.loads(decode_base64url(token.split(".")[0]) or b"") == {"alg": "ES256", "typ": "JWT"}


def test_without_a_contact_there_is_no_sub(clock: Clock) -> None:
    assert "sub" not in claims(VapidTokens(None, clock).header(KEY, ORIGIN))


def test_a_token_is_used_for_one_origin_and_key_until_near_its_end(clock: Clock) -> None:
    tokens, other = VapidTokens(None, clock), vapid_key(new_key())
    first = tokens.header(KEY, ORIGIN)
    clock.now += 11 * 3600 - 1
    assert tokens.header(KEY, ORIGIN) == first
    assert claims(tokens.header(KEY, "https://a.example"))["aud"] == "https://a.example"
    assert parts(tokens.header(other, ORIGIN))[1] == other.public_text
    clock.now += 1
    renewed = tokens.header(KEY, ORIGIN)
    assert claims(renewed)["exp"] == clock.now + 12 * 3600


def test_a_clock_that_was_set_back_makes_a_new_token(clock: Clock) -> None:
    tokens = VapidTokens(None, clock)
    tokens.header(KEY, ORIGIN)
    clock.now -= 86_400
    assert claims(tokens.header(KEY, ORIGIN))["exp"] == clock.now + 12 * 3600


def test_tokens_of_many_origins_are_bounded(clock: Clock) -> None:
    tokens = VapidTokens(None, clock)
    for number in range(300):
        tokens.header(KEY, f"https://h{number}.notify.windows.com")
    assert len(tokens._tokens) == 256
