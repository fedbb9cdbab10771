"""One push at a push service: what is sent, and what each answer means for the push and its token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from relay.transports import Outcome
from relay.transports.webpush.message import PADDED_BYTES, message
from relay.transports.webpush.transport import WebPushTransport
from relay.web_push_settings import VapidKey, new_key, vapid_key
from sigil.protocol.encoding.text import decode_base64url
from sigil.protocol.web_push import MAX_APP
from tests.relay.webpush.conftest import at, new_push, opened, subscription
from tests.support.push_service import APPLE, FCM, MOZILLA, WINDOWS, PushService
from tests.support.web_push import APP


async def test_a_push_is_encrypted_signed_and_names_what_it_announces(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    subscribed = subscription(key, "/fcm/send/ok?x=%2b")
    push = new_push(subscribed)
    assert await transport.send(push) == Outcome("delivered")
    (received,) = service.received
    assert received.path == "/fcm/send/ok?x=%2b"
    headers = dict(received.headers)
    ttl = int(headers.pop("ttl"))
    assert 0 < ttl <= 300
    scheme, token, public = headers.pop("authorization").split(" ")
    assert (scheme, public) == ("vapid", f"k={key.public_text}")
    verifier = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), decode_base64url(key.public_text) or b"")
    claims = jwt.decode(token[2:-1], verifier, ["ES256"], audience=f"https://{FCM}")
    assert claims["sub"] == "mailto:ops@sigil-relay.net"
    assert headers == {
        ":scheme": "https",
        ":authority": FCM,
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
        "content-length": str(86 + 1024 + 16),
        "urgency": "high",
        "topic": base64.urlsafe_b64encode(hashlib.sha256(b"c1").digest()).decode()[:32],
    }
    # A reference alone: nothing else of the payload.
    assert json.loads(subscribed.decrypt(received.body)) == {
        "web_push": 8030,
        "notification": {
            "title": "Approval requested",
            "body": "Open the app to see who asks, and what for.",
            "tag": "c1",
            "navigate": f"{APP}#c1",
            "data": {"type": "challenge", "id": "c1", "until": push.expires_at},
        },
    }


async def test_a_push_of_low_priority_without_a_name_to_a_past_end(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    push = new_push(subscription(key), priority="normal", collapse_id=None, expires_at=int(time.time()) - 5)
    assert (await transport.send(push)).kind == "delivered"
    headers = service.received[0].headers
    assert (headers["urgency"], headers["ttl"], headers.get("topic")) == ("normal", "0", None)


async def test_microsofts_service_keeps_a_push_for_a_computer_that_is_off(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    for host in (WINDOWS, FCM):
        assert (await transport.send(new_push(subscription(key, host=host)))).kind == "delivered"
    assert [one.headers.get("x-wns-cache-policy") for one in service.received] == ["cache", None]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"type":"mpa","mpa_id":"0f-_9"}', ("mpa", "0f-_9")),
        (b'{"type":"challenge"}', ("", "")),
        (b'{"type":"other","challenge_id":"c1"}', ("", "")),
        (b'{"type":"challenge","challenge_id":"a b"}', ("", "")),
        (b'{"type":"challenge","challenge_id":"c1\\n"}', ("", "")),
        (b'{"type":"challenge","challenge_id":"' + b"x" * 65 + b'"}', ("", "")),
        (b'{"type":"challenge","challenge_id":7}', ("", "")),
        (b"{}", ("", "")),
        (b"[]", ("", "")),
    ],
)
def test_the_message_holds_an_id_or_nothing_of_the_payload(payload: bytes, expected: tuple[str, str]) -> None:
    notification = json.loads(message(payload, APP, 7))["notification"]
    assert (notification["data"]["type"], notification["data"]["id"]) == expected
    assert notification["navigate"] == f"{APP}#{expected[1]}"


def test_the_longest_message_fits() -> None:
    app = "https://a.example/".ljust(MAX_APP, "x")
    longest = message(b'{"type":"challenge","challenge_id":"' + b"x" * 64 + b'"}', app, 2**53)
    assert len(longest) < 950 < PADDED_BYTES


OUTCOMES = pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/200", Outcome("delivered")),
        ("/202", Outcome("delivered")),
        ("/404", Outcome("gone", "http_404")),
        ("/410?reason=Unregistered", Outcome("gone", "http_410")),
        ("/429", Outcome("retry", "http_429", after=20.0)),
        ("/429?retry_after=7", Outcome("retry", "http_429", after=7.0)),
        ("/429?retry_after=99999", Outcome("retry", "http_429", after=600.0)),
        ("/429?retry_after=-1", Outcome("retry", "http_429", after=20.0)),
        ("/406", Outcome("retry", "http_406", after=20.0)),
        ("/408", Outcome("retry", "http_408")),
        ("/500", Outcome("retry", "http_500")),
        ("/503?retry_after=30", Outcome("retry", "http_503", after=30.0)),
        ("/599", Outcome("retry", "http_599")),
        ("/301?location=https://127.0.0.1/", Outcome("refused", "http_301")),
        ("/307?location=https://127.0.0.1/", Outcome("refused", "http_307")),
        ("/400", Outcome("refused", "http_400")),
        ("/413", Outcome("refused", "http_413")),
        ("/451", Outcome("refused", "http_451")),
        ("/401", Outcome("refused", "http_401", counts_against_token=True)),
        ("/403?reason=BadJwtToken", Outcome("refused", "BadJwtToken", counts_against_token=True)),
        ("/403?reason=<script>", Outcome("refused", "http_403", counts_against_token=True)),
        ("/huge", Outcome("retry", "an answer that does not end")),
    ],
)


@OUTCOMES
async def test_each_answer_has_its_outcome(
    transport: WebPushTransport, service: PushService, key: VapidKey, path: str, outcome: Outcome
) -> None:
    assert await transport.send(new_push(subscription(key, path))) == outcome
    assert len(service.received) == 1
    # The connection serves the next push after every answer.
    assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
    assert service.accepted <= 2


async def test_a_reset_stream_is_tried_again_later(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    assert await transport.send(new_push(subscription(key, "/early"))) == Outcome("retry", "stream reset")
    assert (await transport.send(new_push(subscription(key)))).kind == "delivered"


async def test_a_clear_is_never_sent(transport: WebPushTransport, service: PushService, key: VapidKey) -> None:
    clear = new_push(subscription(key), payload=b'{"type":"clear","challenge_id":"c1"}')
    assert await transport.send(clear) == Outcome("refused", "not_carried", local=True)
    assert not service.received


async def test_the_key_of_the_subscription_decides_and_a_removed_key_sends_nothing(
    service: PushService, key: VapidKey
) -> None:
    old, removed = vapid_key(new_key()), vapid_key(new_key())
    async with opened(key, at(await service.listen()), keys=(key, old)) as transport:
        for used in (key, old):
            assert (await transport.send(new_push(subscription(used)))).kind == "delivered"
            assert service.received[-1].headers["authorization"].endswith(f", k={used.public_text}")
        refused = await transport.send(new_push(subscription(removed)))
        assert refused == Outcome("refused", "key_not_of_relay", local=True)
    assert len(service.received) == 2


async def test_a_host_that_left_the_list_gets_nothing(service: PushService, key: VapidKey) -> None:
    port = await service.listen()
    async with opened(key, f"{FCM}=127.0.0.1:{port}") as transport:
        refused = await transport.send(new_push(subscription(key, host=MOZILLA)))
        assert refused == Outcome("refused", "host_not_listed", local=True)
        malformed = await transport.send(new_push("{}"))
        assert malformed == Outcome("refused", "malformed_subscription", local=True)
    assert not service.received


async def test_the_lane_is_the_host_and_made_up_hosts_of_a_wildcard_share_one(key: VapidKey) -> None:
    async with opened(key, f"{APPLE} *.notify.windows.com") as transport:
        assert transport.lane(subscription(key, host=APPLE).token()) == APPLE
        lanes = {transport.lane(subscription(key, host=f"h{n}.notify.windows.com").token()) for n in range(9)}
        assert lanes == {"*.notify.windows.com"}
        assert transport.lane(subscription(key, host=MOZILLA).token()) == ""
        assert transport.lane("no token") == ""


async def test_a_cancelled_push_leaves_its_connection_to_the_others(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    slow = asyncio.create_task(transport.send(new_push(subscription(key, "/slow"))))
    while not service.received:
        await asyncio.sleep(0.01)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
    assert transport.load().streams == 0
