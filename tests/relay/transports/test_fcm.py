"""Requests to FCM, and the outcome of each response."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.transports import Outcome, OutgoingPush
from tests.relay.transports.conftest import PAYLOAD, new_push, opened
from tests.support.providers import Providers


async def sent(providers: Providers, given: OutgoingPush) -> tuple[Outcome, dict[str, Any]]:
    """The outcome of one push, and the message that the stand-in received."""
    async with opened("fcm", providers) as transport:
        outcome = await transport.send(given)
    (push,) = providers.seen("fcm", token=given.token)
    message: dict[str, Any] = push["body"]["message"]
    return outcome, message


async def outcome_of(providers: Providers, **rule: Any) -> Outcome:
    providers.script("fcm", **rule)
    async with opened("fcm", providers) as transport:
        return await transport.send(new_push("fcm"))


async def test_a_challenge_is_a_visible_message_of_high_priority_that_carries_the_payload(providers: Providers) -> None:
    given = new_push("fcm")
    outcome, message = await sent(providers, given)
    assert outcome == Outcome("delivered")
    assert message["token"] == given.token
    assert message["data"] == {"sigil": PAYLOAD.decode()}
    assert message["notification"]["title"] == "Approval requested"
    android = message["android"]
    assert (android["priority"], android["collapse_key"], android["notification"]["tag"]) == ("HIGH", "c1", "c1")
    assert given.expires_at - time.time() - 1 <= int(android["ttl"].rstrip("s")) <= 300


async def test_a_clear_shows_nothing(providers: Providers) -> None:
    clear = b'{"type":"clear","challenge_id":"c1","status":"cancelled"}'
    _, message = await sent(providers, new_push("fcm", payload=clear))
    assert "notification" not in message
    assert "notification" not in message["android"]
    assert message["android"]["priority"] == "NORMAL"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("UNREGISTERED", Outcome("gone", "UNREGISTERED")),
        ("INVALID_ARGUMENT", Outcome("refused", "INVALID_ARGUMENT", counts_against_token=True)),
        ("SENDER_ID_MISMATCH", Outcome("refused", "SENDER_ID_MISMATCH", counts_against_token=True)),
        ("THIRD_PARTY_AUTH_ERROR", Outcome("refused", "THIRD_PARTY_AUTH_ERROR")),
        ("PERMISSION_DENIED", Outcome("denied", "PERMISSION_DENIED")),
        ("QUOTA_EXCEEDED", Outcome("retry", "QUOTA_EXCEEDED", after=60)),
        ("UNAVAILABLE", Outcome("retry", "UNAVAILABLE", after=30)),
        ("INTERNAL", Outcome("retry", "INTERNAL")),
    ],
)
async def test_each_code_has_its_outcome(providers: Providers, code: str, outcome: Outcome) -> None:
    assert await outcome_of(providers, outcome=code) == outcome


async def test_an_error_that_is_not_from_fcm_is_retried(providers: Providers) -> None:
    assert await outcome_of(providers, status=502, body="<html>Bad gateway</html>") == Outcome("retry", "http_502")


async def test_a_404_that_does_not_name_the_token_evicts_no_token(providers: Providers) -> None:
    assert await outcome_of(providers, status=404, body="<html>") == Outcome("refused", "http_404")


async def test_all_pushes_share_one_access_token(providers: Providers) -> None:
    before = providers.counters("token")["access_tokens"]
    async with opened("fcm", providers) as transport:
        outcomes = await asyncio.gather(*(transport.send(new_push("fcm")) for _ in range(50)))
    assert set(outcomes) == {Outcome("delivered")}
    assert providers.counters("token")["access_tokens"] == before + 1


async def test_a_revoked_access_token_is_replaced_once_and_within_the_attempt(
    providers: Providers,
) -> None:
    async with opened("fcm", providers) as transport:
        await transport.send(new_push("fcm"))
        before = providers.counters("token")["access_tokens"]
        providers.revoke()
        outcomes = await asyncio.gather(*(transport.send(new_push("fcm")) for _ in range(50)))
        assert set(outcomes) == {Outcome("delivered")}
        assert providers.counters("token")["access_tokens"] == before + 1


async def test_a_new_token_that_is_rejected_too_is_denied(providers: Providers) -> None:
    assert await outcome_of(providers, outcome="UNAUTHENTICATED") == Outcome("denied", "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"outcome": "invalid_grant"}, Outcome("denied", "invalid_grant")),
        ({"outcome": "internal_failure"}, Outcome("retry", "token_unavailable")),
        ({"fault": "close"}, Outcome("retry", "token_unavailable")),
    ],
)
async def test_without_an_access_token_nothing_is_sent(
    providers: Providers, rule: dict[str, str], outcome: Outcome
) -> None:
    providers.script("token", **rule)
    async with opened("fcm", providers) as transport:
        assert await transport.send(new_push("fcm")) == outcome
    assert providers.counters("fcm")["outcomes"] == {}


@pytest.mark.parametrize("mode", ["refusing", "untrusted", "expired"])
async def test_an_untrusted_or_unreachable_token_endpoint_is_retried(providers: Providers, mode: str) -> None:
    providers.listener("token", mode, drop=True)
    async with opened("fcm", providers) as transport:
        assert await transport.send(new_push("fcm")) == Outcome("retry", "token_unavailable")


async def test_an_unknown_key_is_denied(providers: Providers, tmp_path: Path) -> None:
    account = json.loads(Path(providers.env["FCM_SERVICE_ACCOUNT"]).read_text())
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account["private_key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = tmp_path / "account.json"
    path.touch(0o600)
    path.write_text(json.dumps(account))
    async with opened("fcm", providers, FCM_SERVICE_ACCOUNT=str(path)) as transport:
        assert await transport.send(new_push("fcm")) == Outcome("denied", "invalid_grant")
