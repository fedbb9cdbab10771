"""The push_token of a browser: one accepted form, and for every other a text that names the member."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.transports.webpush.encryption import Recipient
from relay.web_push_settings import new_key, vapid_key
from sigil.protocol import web_push
from sigil.protocol.encoding.text import decode_base64url, encode_base64url
from sigil.protocol.web_push import NotAWebPushToken
from tests.support.web_push import Subscription

KEY = vapid_key(new_key()).public_text


@pytest.fixture
def subscription() -> Subscription:
    return Subscription(KEY, "https://updates.push.services.mozilla.com/wpush/v2/gAAA-_=?a=%2b&b")


def test_the_one_form_is_read_whole_and_written_again(subscription: Subscription) -> None:
    text = subscription.token()
    token = web_push.parse(text)
    assert token.host == "updates.push.services.mozilla.com"
    assert token.path == "/wpush/v2/gAAA-_=?a=%2b&b"
    assert token.endpoint == f"https://{token.host}{token.path}" == subscription.members["endpoint"]
    assert (token.p256dh, token.auth) == (subscription.public, subscription.auth)
    assert (token.app, encode_base64url(token.key)) == (subscription.members["app"], KEY)
    assert token.text() == text


@pytest.mark.parametrize(
    "app",
    ["https://a.example/", "https://a.example:8443/device/?x=1", "http://localhost:8080/device/", "http://127.0.0.1/"],
)
def test_the_app_is_a_page_over_https_or_of_this_machine(subscription: Subscription, app: str) -> None:
    assert web_push.parse(subscription.token(app=app)).app == app


OFF_CURVE = encode_base64url(b"\x04" + b"\x01" * 64)
COMPRESSED = encode_base64url(b"\x02" + (decode_base64url(KEY) or b"")[1:33])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"app": None}, "exactly the strings"),
        ({"more": "x"}, "exactly the strings"),
        ({"auth": 1}, "exactly the strings"),
        ({"auth": None}, "exactly the strings"),
        ({"auth": encode_base64url(b"x" * 15)}, "auth must be 16 bytes"),
        ({"auth": encode_base64url(b"x" * 17)}, "auth must be 16 bytes"),
        ({"auth": encode_base64url(b"x" * 16) + "=="}, "auth must be 16 bytes"),
        ({"auth": "A" * 21 + "B"}, "auth must be 16 bytes"),
        ({"p256dh": OFF_CURVE}, "p256dh must be an uncompressed point"),
        ({"p256dh": COMPRESSED}, "p256dh must be 65 bytes"),
        ({"p256dh": encode_base64url(bytes(65))}, "p256dh must be an uncompressed point"),
        ({"key": OFF_CURVE}, "key must be an uncompressed point"),
        ({"key": KEY[:-1]}, "key must be 65 bytes"),
        *(
            ({"endpoint": endpoint}, "endpoint must be an https URL")
            for endpoint in (
                "http://fcm.googleapis.com/x",
                "https://fcm.googleapis.com",
                "https://fcm.googleapis.com:443/x",
                "https://user@fcm.googleapis.com/x",
                "https://FCM.googleapis.com/x",
                "https://fcm.googleapis.com/x#y",
                "https://fcm.googleapis.com/x\\y",
                "https://fcm.googleapis.com/x y",
                "https://fcm.googleapis.com/x\r\nhost: a",
                "https://fcm.googleapis.com/ü",
                "https://[::1]/x",
                "https://fcm.googleapis.com?x",
                "https://fcm.googleapis.com/" + "x" * 1000,
            )
        ),
        *(
            ({"endpoint": f"https://{host}/x"}, "endpoint must")
            for host in (
                "fcm.googleapis.com.",
                "127.0.0.1",
                "0x7f.1",
                "2130706433",
                "a..b",
                "-a.b",
                "a.b-",
                ".a",
                "a.1",
            )
        ),
        *(
            ({"app": app}, "app ")
            for app in (
                "http://sigil.example.com/",
                "https://user@sigil.example.com/",
                "https://sigil.example.com/#a",
                "https://sigil.example.com",
                "https://sigil.example.com:443/",
                "https://Sigil.example.com/",
                'https://sigil.example.com/"',
                "https://sigil.example.com/\\",
                "javascript:alert(1)",
                "https://sigil.example.com/" + "x" * 487,
            )
        ),
    ],
)
def test_any_other_form_is_refused_with_the_member_that_is_wrong(
    subscription: Subscription, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(NotAWebPushToken, match=named):
        web_push.parse(subscription.token(**changed))


def test_one_subscription_has_one_spelling(subscription: Subscription) -> None:
    text = subscription.token()
    others = [
        text.replace(",", ", ", 1),
        json.dumps(subscription.members),
        json.dumps(dict(reversed(subscription.members.items())), separators=(",", ":")),
        text.replace("https", "\\u0068ttps", 1),
        text.replace("/", "\\/", 1),
        text + "\n",
        text[:-1] + ',"auth":' + json.dumps(subscription.members["auth"]) + "}",
        "\ufeff" + text,
    ]
    for other in others:
        with pytest.raises(NotAWebPushToken):
            web_push.parse(other)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '"x"', "[" * 5000, '{"app":"\\ud800"}'])
def test_no_text_is_an_error_of_another_kind(text: str) -> None:
    with pytest.raises(NotAWebPushToken, match="exactly the strings"):
        web_push.parse(text)


def test_no_repr_shows_what_a_push_needs(subscription: Subscription) -> None:
    token = web_push.parse(subscription.token())
    for shown in (repr(token), f"{token}", repr(Recipient.of(token.p256dh, token.auth))):
        assert token.path not in shown
        assert repr(token.auth) not in shown
        assert token.auth.hex() not in shown
