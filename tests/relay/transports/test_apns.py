"""What APNs is sent, and what its answers mean."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.credentials import ApnsCredentials
from relay.transports import Outcome, OutgoingPush
from relay.transports.apns_protocol import MIN_TOKEN_SECONDS, TOKEN_SECONDS, ProviderToken
from sigil.serving.settings import Secret
from tests.relay.transports.conftest import PAYLOAD, letter, opened, transport_of
from tests.support.providers import Providers
from tests.support.services import Clock


async def sent(providers: Providers, given: OutgoingPush) -> tuple[Outcome, dict[str, Any]]:
    """The outcome of one push, and what the provider saw of it."""
    async with opened("apns", providers) as transport:
        outcome = await transport.send(given)
    (push,) = providers.seen("apns", token=given.token)
    return outcome, push


async def outcome_of(providers: Providers, **rule: Any) -> Outcome:
    providers.script("apns", **rule)
    async with opened("apns", providers) as transport:
        return await transport.send(letter("apns"))


async def test_a_challenge_is_a_visible_alert_that_carries_the_payload(providers: Providers) -> None:
    given = letter("apns")
    outcome, push = await sent(providers, given)
    assert outcome == Outcome("delivered")
    headers = push["headers"]
    assert headers["apns-topic"] == providers.env["APNS_TOPIC"]
    assert (headers["apns-push-type"], headers["apns-priority"]) == ("alert", "10")
    assert headers["apns-expiration"] == str(given.expires_at)
    assert headers["apns-collapse-id"] == "c1"
    assert UUID(headers["apns-id"]).hex == given.push_id
    aps = push["body"]["aps"]
    assert (aps["interruption-level"], aps["mutable-content"]) == ("time-sensitive", 1)
    assert aps["alert"] == {"title": "Approval requested", "body": "Open the app to see who asks, and what for."}
    assert push["sigil"] == PAYLOAD.decode()


async def test_a_clear_comes_in_the_background(providers: Providers) -> None:
    clear = b'{"type":"clear","challenge_id":"c1","status":"cancelled"}'
    _, push = await sent(providers, letter("apns", payload=clear))
    assert (push["headers"]["apns-push-type"], push["headers"]["apns-priority"]) == ("background", "5")
    assert push["body"] == {"aps": {"content-available": 1}, "sigil": clear.decode()}


async def test_a_long_collapse_id_is_hashed(providers: Providers) -> None:
    long = "x" * 65
    _, push = await sent(providers, letter("apns", collapse_id=long))
    assert push["headers"]["apns-collapse-id"] == hashlib.sha256(long.encode()).hexdigest()


async def test_a_payload_that_does_not_fit_becomes_a_reference(providers: Providers) -> None:
    """3 KiB of payload are over 4096 bytes as a string within JSON when many characters are escaped."""
    ids = {"type": "challenge", "challenge_id": "c" * 36, "server_id": "a" * 64}
    fits = json.dumps({**ids, "text": "y" * 2900}, separators=(",", ":")).encode()
    swells = json.dumps({**ids, "text": '"' * 1400}, separators=(",", ":")).encode()
    assert max(len(fits), len(swells)) <= 3072
    assert (await sent(providers, letter("apns", payload=fits)))[1]["sigil"] == fits.decode()
    assert json.loads((await sent(providers, letter("apns", payload=swells)))[1]["sigil"]) == ids


async def test_a_payload_that_does_not_fit_and_refers_to_nothing_is_refused_unsent(providers: Providers) -> None:
    payload = json.dumps({"type": "x", "text": '"' * 1500}).encode()
    async with opened("apns", providers) as transport:
        before = providers.counters("apns")["outcomes"]
        assert await transport.send(letter("apns", payload=payload)) == Outcome(
            "refused", "PayloadTooLarge", local=True
        )
        assert providers.counters("apns")["outcomes"] == before


@pytest.mark.parametrize("token", ["../../x", "zz", "ab cd", "a" * 401, "é", ""])
async def test_what_is_no_token_is_never_sent(providers: Providers, token: str) -> None:
    async with opened("apns", providers) as transport:
        assert await transport.send(letter("apns", token=token)) == Outcome("gone", "BadDeviceToken", local=True)
    assert providers.counters("apns")["outcomes"] == {}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("BadDeviceToken", Outcome("gone", "BadDeviceToken")),
        ("DeviceTokenNotForTopic", Outcome("gone", "DeviceTokenNotForTopic")),
        ("TopicDisallowed", Outcome("denied", "TopicDisallowed")),
        ("InvalidProviderToken", Outcome("denied", "InvalidProviderToken")),
        ("PayloadTooLarge", Outcome("refused", "PayloadTooLarge")),
        ("BadCollapseId", Outcome("refused", "BadCollapseId")),
        ("TooManyRequests", Outcome("retry", "TooManyRequests", after=20)),
        ("TooManyProviderTokenUpdates", Outcome("retry", "TooManyProviderTokenUpdates", after=20)),
        ("InternalServerError", Outcome("retry", "InternalServerError")),
        ("ServiceUnavailable", Outcome("retry", "ServiceUnavailable")),
        ("Shutdown", Outcome("retry", "Shutdown")),
    ],
)
async def test_each_reason_has_its_outcome(providers: Providers, reason: str, outcome: Outcome) -> None:
    assert await outcome_of(providers, outcome=reason) == outcome


async def test_a_token_that_is_gone_says_since_when(providers: Providers) -> None:
    outcome = await outcome_of(providers, outcome="Unregistered", timestamp=1_767_225_600_500)
    assert outcome == Outcome("gone", "Unregistered", since=1_767_225_600.5)


async def test_a_410_without_a_body_is_gone_all_the_same(providers: Providers) -> None:
    assert await outcome_of(providers, outcome="Unregistered", fault="no_body") == Outcome("gone", "http_410")


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("86400", 600), ("soon", 20)])
async def test_retry_after_is_honoured_within_reason(providers: Providers, header: str, seconds: float) -> None:
    outcome = await outcome_of(providers, outcome="TooManyRequests", retry_after=header)
    assert outcome == Outcome("retry", "TooManyRequests", after=seconds)


async def test_what_is_no_word_of_apns_is_not_repeated(providers: Providers) -> None:
    page = '{"reason": "<script>alert(1)</script>"}'
    assert await outcome_of(providers, status=400, body=page) == Outcome("refused", "http_400")


async def test_an_answer_of_a_proxy_on_the_way_is_tried_later(providers: Providers) -> None:
    assert await outcome_of(providers, status=502, body="<html>") == Outcome("retry", "http_502")


async def test_all_connections_and_all_pushes_share_one_provider_token(providers: Providers) -> None:
    async with opened("apns", providers) as transport:
        before = providers.counters("apns")["provider_tokens"]
        await asyncio.gather(*(transport.send(letter("apns")) for _ in range(50)))
        assert providers.counters("apns")["provider_tokens"] == before + 1


async def test_a_key_that_apple_does_not_know_is_denied(providers: Providers, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.p8"
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with opened("apns", providers, APNS_KEY_PATH=str(path)) as transport:
        assert await transport.send(letter("apns")) == Outcome("denied", "InvalidProviderToken")
    async with opened("apns", providers, APNS_KEY_ID="ABCDE12345") as transport:
        assert await transport.send(letter("apns")) == Outcome("denied", "InvalidProviderToken")


async def test_a_topic_of_another_app_is_denied(providers: Providers) -> None:
    async with opened("apns", providers, APNS_TOPIC="com.example.other") as transport:
        outcome = await transport.send(letter("apns"))
        assert (outcome.kind, outcome.error) in {("denied", "TopicDisallowed"), ("gone", "DeviceTokenNotForTopic")}


def token_of(credentials_from: Providers, clock: Clock) -> ProviderToken:
    env = credentials_from.env
    key = Secret(Path(env["APNS_KEY_PATH"]).read_text())
    return ProviderToken(ApnsCredentials(key, env["APNS_KEY_ID"], env["APNS_TEAM_ID"], env["APNS_TOPIC"], ""), clock)


def test_a_provider_token_lives_between_twenty_and_sixty_minutes(providers: Providers) -> None:
    clock = Clock()
    token = token_of(providers, clock)
    first = token.get_header()
    clock.now += TOKEN_SECONDS - 1
    assert token.get_header() == first
    clock.now += 1
    assert token.get_header() != first
    assert MIN_TOKEN_SECONDS <= TOKEN_SECONDS <= 55 * 60


def test_a_clock_that_was_set_back_makes_a_new_token(providers: Providers) -> None:
    clock = Clock()
    token = token_of(providers, clock)
    first = token.get_header()
    clock.now -= 3600
    assert token.get_header() != first


def test_a_token_that_is_called_expired_is_made_anew_but_not_too_often(providers: Providers) -> None:
    clock = Clock()
    token = token_of(providers, clock)
    first = token.get_header()
    assert not token.expired(first)
    clock.now += MIN_TOKEN_SECONDS
    assert token.expired(first)
    second = token.get_header()
    assert second != first
    assert token.expired(first), "there is a newer one to try"
    assert not token.expired(second)
    assert token.get_header() == second


async def test_a_token_that_the_provider_calls_expired_is_renewed_within_the_attempt(providers: Providers) -> None:
    transport = transport_of("apns", providers)
    transport.open()
    try:
        await transport.send(letter("apns"))
        transport._token._made_at = time.time() - MIN_TOKEN_SECONDS - 1  # type: ignore[union-attr]
        providers.settings("apns", token_interval=0)
        providers.script("apns", outcome="ExpiredProviderToken", times=5, delay_ms=100)
        before = providers.counters("apns")["provider_tokens"]
        # All are on their way with the old one when the first hears of it.
        outcomes = await asyncio.gather(*(transport.send(letter("apns")) for _ in range(5)))
        assert outcomes == [Outcome("delivered")] * 5
        assert providers.counters("apns")["provider_tokens"] == before + 1
    finally:
        await transport.close()
