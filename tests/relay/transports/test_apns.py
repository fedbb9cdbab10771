"""Requests to APNs, and the outcome of each response."""

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
from relay.transports.http2 import Endpoint, Headers, Http2Connection, RequestLost, Response
from relay.transports.provider_token import MIN_TOKEN_SECONDS, TOKEN_SECONDS, ProviderToken
from sigil.serving.settings import Secret
from tests.relay.transports.conftest import PAYLOAD, new_push, opened, transport_of
from tests.support.providers import Providers
from tests.support.services import Clock


async def sent(providers: Providers, given: OutgoingPush) -> tuple[Outcome, dict[str, Any]]:
    """The outcome of one push, and the push as the stand-in received it."""
    async with opened("apns", providers) as transport:
        outcome = await transport.send(given)
    (push,) = providers.seen("apns", token=given.token)
    return outcome, push


async def outcome_of(providers: Providers, **rule: Any) -> Outcome:
    providers.script("apns", **rule)
    async with opened("apns", providers) as transport:
        return await transport.send(new_push("apns"))


async def test_a_challenge_is_a_visible_alert_that_carries_the_payload(providers: Providers) -> None:
    given = new_push("apns")
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


async def test_a_clear_is_a_background_push(providers: Providers) -> None:
    clear = b'{"type":"clear","challenge_id":"c1","status":"cancelled"}'
    _, push = await sent(providers, new_push("apns", payload=clear))
    assert (push["headers"]["apns-push-type"], push["headers"]["apns-priority"]) == ("background", "5")
    assert push["body"] == {"aps": {"content-available": 1}, "sigil": clear.decode()}


async def test_a_long_collapse_id_is_hashed(providers: Providers) -> None:
    long = "x" * 65
    _, push = await sent(providers, new_push("apns", collapse_id=long))
    assert push["headers"]["apns-collapse-id"] == hashlib.sha256(long.encode()).hexdigest()


async def test_a_payload_that_is_too_large_becomes_a_reference(providers: Providers) -> None:
    """With many escaped characters, a payload of 3 KiB becomes a JSON string of more than 4096 bytes."""
    ids = {"type": "challenge", "challenge_id": "c" * 36, "server_id": "a" * 64}
    fits = json.dumps({**ids, "text": "y" * 2900}, separators=(",", ":")).encode()
    grows = json.dumps({**ids, "text": '"' * 1400}, separators=(",", ":")).encode()
    assert max(len(fits), len(grows)) <= 3072
    assert (await sent(providers, new_push("apns", payload=fits)))[1]["sigil"] == fits.decode()
    assert json.loads((await sent(providers, new_push("apns", payload=grows)))[1]["sigil"]) == ids


async def test_a_payload_that_is_too_large_and_has_no_id_is_refused_without_a_request(providers: Providers) -> None:
    payload = json.dumps({"type": "x", "text": '"' * 1500}).encode()
    async with opened("apns", providers) as transport:
        before = providers.counters("apns")["outcomes"]
        assert await transport.send(new_push("apns", payload=payload)) == Outcome(
            "refused", "PayloadTooLarge", local=True
        )
        assert providers.counters("apns")["outcomes"] == before


@pytest.mark.parametrize("token", ["../../x", "zz", "ab cd", "a" * 401, "é", ""])
async def test_a_malformed_token_is_never_sent(providers: Providers, token: str) -> None:
    async with opened("apns", providers) as transport:
        assert await transport.send(new_push("apns", token=token)) == Outcome("gone", "BadDeviceToken", local=True)
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


async def test_the_outcome_of_a_dead_token_has_its_time(providers: Providers) -> None:
    outcome = await outcome_of(providers, outcome="Unregistered", timestamp=1_767_225_600_500)
    assert outcome == Outcome("gone", "Unregistered", since=1_767_225_600.5)


async def test_a_410_without_a_body_means_a_dead_token(providers: Providers) -> None:
    assert await outcome_of(providers, outcome="Unregistered", fault="no_body") == Outcome("gone", "http_410")


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("86400", 600), ("soon", 20)])
async def test_retry_after_is_honoured_up_to_its_limit(providers: Providers, header: str, seconds: float) -> None:
    outcome = await outcome_of(providers, outcome="TooManyRequests", retry_after=header)
    assert outcome == Outcome("retry", "TooManyRequests", after=seconds)


async def test_a_reason_that_is_no_error_code_is_not_repeated(providers: Providers) -> None:
    page = '{"reason": "<script>alert(1)</script>"}'
    assert await outcome_of(providers, status=400, body=page) == Outcome("refused", "http_400")


async def test_an_error_of_an_intermediate_proxy_is_retried(providers: Providers) -> None:
    assert await outcome_of(providers, status=502, body="<html>") == Outcome("retry", "http_502")


async def test_all_connections_and_all_pushes_share_one_provider_token(providers: Providers) -> None:
    async with opened("apns", providers) as transport:
        before = providers.counters("apns")["provider_tokens"]
        await asyncio.gather(*(transport.send(new_push("apns")) for _ in range(50)))
        assert providers.counters("apns")["provider_tokens"] == before + 1


async def test_an_unknown_key_is_denied(providers: Providers, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.p8"
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with opened("apns", providers, APNS_KEY_PATH=str(path)) as transport:
        assert await transport.send(new_push("apns")) == Outcome("denied", "InvalidProviderToken")
    async with opened("apns", providers, APNS_KEY_ID="ABCDE12345") as transport:
        assert await transport.send(new_push("apns")) == Outcome("denied", "InvalidProviderToken")


async def test_a_topic_of_another_app_is_denied(providers: Providers) -> None:
    async with opened("apns", providers, APNS_TOPIC="com.example.other") as transport:
        outcome = await transport.send(new_push("apns"))
        assert (outcome.kind, outcome.error) in {("denied", "TopicDisallowed"), ("gone", "DeviceTokenNotForTopic")}


def provider_token(credentials_from: Providers, clock: Clock) -> ProviderToken:
    env = credentials_from.env
    key = Secret(Path(env["APNS_KEY_PATH"]).read_text())
    return ProviderToken(ApnsCredentials(key, env["APNS_KEY_ID"], env["APNS_TEAM_ID"], env["APNS_TOPIC"], ""), clock)


def test_a_provider_token_lives_between_twenty_and_sixty_minutes(providers: Providers) -> None:
    clock = Clock()
    token = provider_token(providers, clock)
    first = token.header()
    clock.now += TOKEN_SECONDS - 1
    assert token.header() == first
    clock.now += 1
    assert token.header() != first
    assert MIN_TOKEN_SECONDS <= TOKEN_SECONDS <= 55 * 60


def test_a_clock_that_was_set_back_makes_a_new_token(providers: Providers) -> None:
    clock = Clock()
    token = provider_token(providers, clock)
    first = token.header()
    clock.now -= 3600
    assert token.header() != first


def test_a_token_that_is_reported_as_expired_is_replaced_but_not_too_often(providers: Providers) -> None:
    clock = Clock()
    token = provider_token(providers, clock)
    first = token.header()
    assert not token.replace_expired(first)
    clock.now += MIN_TOKEN_SECONDS
    assert token.replace_expired(first)
    second = token.header()
    assert second != first
    assert token.replace_expired(first), "there is a newer token to try"
    assert not token.replace_expired(second)
    assert token.header() == second


async def test_a_token_that_is_reported_as_expired_is_replaced_within_the_attempt(providers: Providers) -> None:
    transport = transport_of("apns", providers)
    transport.open()
    try:
        await transport.send(new_push("apns"))
        transport._token._created_at = time.time() - MIN_TOKEN_SECONDS - 1  # type: ignore[union-attr]
        providers.settings("apns", token_interval=0)
        providers.script("apns", outcome="ExpiredProviderToken", times=5, delay_ms=100)
        before = providers.counters("apns")["provider_tokens"]
        # All five are in flight with the old token when the first response arrives.
        outcomes = await asyncio.gather(*(transport.send(new_push("apns")) for _ in range(5)))
        assert outcomes == [Outcome("delivered")] * 5
        assert providers.counters("apns")["provider_tokens"] == before + 1
    finally:
        await transport.close()


async def test_a_request_that_is_sent_again_carries_the_provider_token_of_that_moment(
    providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple answers 429 to a connection that returns to an older token, and the push would wait for 20 s."""
    sent: list[str] = []
    async with opened("apns", providers) as transport:
        token: ProviderToken = transport._token  # type: ignore[union-attr]

        async def refuse_first(_connection: Http2Connection, headers: Headers, _body: bytes) -> Response:
            sent.append(dict(headers)[b"authorization"].decode())
            if len(sent) == 1:
                # Another push replaces the token meanwhile.
                token._created_at -= TOKEN_SECONDS
                token.header()
                raise RequestLost("stream refused", unprocessed=True)
            return Response(200, {}, b"")

        monkeypatch.setattr(Http2Connection, "request", refuse_first)
        assert await transport.send(new_push("apns")) == Outcome("delivered")
        first, second = sent
        assert first != second == token.header()


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://api.push.apple.com", b"api.push.apple.com"),
        ("https://API.push.apple.com:0443/", b"api.push.apple.com"),
        ("https://127.0.0.1:8443", b"127.0.0.1:8443"),
        ("https://[::1]:8443", b"[::1]:8443"),
        ("https://b\u00fccher.example:8443", b"xn--bcher-kva.example:8443"),
        (f"https://{'h' * 60}.example:8443", b"h" * 60 + b".example:8443"),
    ],
)
def test_the_authority_is_the_host_with_its_port_unless_that_is_443(url: str, authority: bytes) -> None:
    assert Endpoint.parse(url).authority == authority
