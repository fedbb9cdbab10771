"""Requests that FCM and its token endpoint accept and reject, as Google documents it."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.stand_ins.clients import FcmClient
from tests.support.providers import Providers, fcm_token

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def test_a_valid_message_gets_a_name_and_reaches_the_device(providers: Providers, fcm: FcmClient) -> None:
    device = fcm_token()
    android = {"priority": "high", "ttl": "120s", "collapse_key": "c", "notification": {"channel_id": "sign-in"}}
    answer = fcm.push(device, data={"sigil": '{"a":1}'}, notification={"title": "Sign in"}, android=android)
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
    assert answer.json()["name"].startswith(f"projects/{fcm.project}/messages/0:")
    [seen] = providers.seen("fcm")
    assert (seen["token"], seen["sigil"]) == (device, '{"a":1}')
    assert seen["body"]["message"]["android"] == android
    assert "authorization" not in seen["headers"]


def test_a_message_that_is_only_validated_reaches_no_device(providers: Providers, fcm: FcmClient) -> None:
    answer = fcm.push(message={"message": {"token": fcm_token()}, "validate_only": True})
    assert answer.json() == {"name": f"projects/{fcm.project}/messages/fake_message_id"}
    assert providers.seen() == []


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"data": {"sigil": 1}}, "message.data"),
        ({"data": {"from": "x"}}, "message.data[from]"),
        ({"data": {"google.x": "x"}}, "message.data[google.x]"),
        ({"data": {"gcm": "x"}}, "message.data[gcm]"),
        ({"data": {"sigil": "x" * 4092}}, "message"),
        ({"notification": {"title": "x" * 4096}}, "message"),
        ({"notification": "hello"}, "message.notification"),
        ({"surprise": 1}, "message"),
        ({"android": {"priority": "loud"}}, "message.android.priority"),
        ({"android": {"ttl": "120"}}, "message.android.ttl"),
        ({"android": {"ttl": 120}}, "message.android.ttl"),
        ({"android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"android": {"surprise": 1}}, "message.android"),
        ({"topic": "news"}, "message"),
    ],
)
def test_an_invalid_message_is_rejected_with_its_field(fcm: FcmClient, members: dict[str, Any], field: str) -> None:
    answer = fcm.push(**members)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    [details] = error["details"]
    assert details["@type"] == BAD_REQUEST
    assert details["fieldViolations"][0]["field"].startswith(field)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b"{}", b'{"message":{"data":{}}}', b"[" * 5000])
def test_a_malformed_message_is_an_invalid_argument(fcm: FcmClient, content: bytes) -> None:
    assert fcm.push(content=content).json()["error"]["status"] == "INVALID_ARGUMENT"


def test_a_malformed_token_is_an_invalid_argument(fcm: FcmClient) -> None:
    answer = fcm.push("no")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == [{"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}]


def test_only_the_project_of_the_service_account_is_accepted(fcm: FcmClient) -> None:
    answer = fcm.push(path="/v1/projects/another/messages:send")
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert fcm.push(path="/v1/elsewhere").status_code == 404
    assert fcm.push(path=f"/v1/projects/{fcm.project}/messages:get").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "status", "canonical"),
    [
        ("UNREGISTERED", 404, "NOT_FOUND"),
        ("INVALID_ARGUMENT", 400, "INVALID_ARGUMENT"),
        ("SENDER_ID_MISMATCH", 403, "PERMISSION_DENIED"),
        ("QUOTA_EXCEEDED", 429, "RESOURCE_EXHAUSTED"),
        ("UNAVAILABLE", 503, "UNAVAILABLE"),
        ("INTERNAL", 500, "INTERNAL"),
        ("THIRD_PARTY_AUTH_ERROR", 401, "UNAUTHENTICATED"),
    ],
)
def test_a_valid_message_can_be_rejected_with_any_code(
    providers: Providers, fcm: FcmClient, outcome: str, status: int, canonical: str
) -> None:
    providers.script("fcm", token="dead", outcome=outcome)
    answer = fcm.push(fcm_token("dead"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (status, status, canonical)
    assert error["details"] == [{"@type": FCM_ERROR, "errorCode": outcome}]
    assert answer.headers.get("retry-after") == {"QUOTA_EXCEEDED": "60", "UNAVAILABLE": "30"}.get(outcome)
    assert fcm.push().status_code == 200
    assert providers.counters("fcm")["outcomes"] == {outcome: 1, "Success": 1}


def test_retry_after_can_be_scripted(providers: Providers, fcm: FcmClient) -> None:
    providers.script("fcm", outcome="QUOTA_EXCEEDED", retry_after="2")
    assert fcm.push().headers["retry-after"] == "2"


def test_the_page_of_a_proxy_can_replace_a_response(providers: Providers, fcm: FcmClient) -> None:
    providers.script("fcm", status=502, body="<!DOCTYPE html><title>Error 502</title>")
    answer = fcm.push()
    assert (answer.status_code, answer.text) == (502, "<!DOCTYPE html><title>Error 502</title>")
    assert answer.headers["content-type"].startswith("text/html")


# Access tokens


def reason(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (401, "UNAUTHENTICATED")
    assert "www-authenticate" in answer.headers
    found: str = error["details"][0]["reason"]
    return found


def test_without_a_valid_access_token_nothing_is_accepted(providers: Providers, fcm: FcmClient) -> None:
    assert reason(fcm.push(authorization="Basic x")) == "CREDENTIALS_MISSING"
    assert reason(fcm.push(authorization="Bearer made-up")) == "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    assert fcm.push().status_code == 200
    providers.revoke()
    assert reason(fcm.push()) == "ACCESS_TOKEN_EXPIRED"
    providers.script("fcm", outcome="UNAUTHENTICATED")
    assert (
        reason(fcm.push(authorization=f"Bearer {fcm.request_token().json()['access_token']}")) == "ACCESS_TOKEN_EXPIRED"
    )


def test_an_access_token_expires(providers: Providers, fcm: FcmClient) -> None:
    issued = fcm.request_token().json()
    assert (issued["expires_in"], issued["token_type"]) == (3599, "Bearer")
    providers.settings("token", lifetime=0)
    issued = fcm.request_token().json()
    assert issued["expires_in"] == 0
    assert reason(fcm.push(authorization=f"Bearer {issued['access_token']}")) == "ACCESS_TOKEN_EXPIRED"


def unknown_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"key": unknown_key()}, "invalid_grant"),
        ({"key": "x" * 32, "alg": "HS256"}, "invalid_grant"),
        ({"kid": "another"}, "invalid_grant"),
        ({"iss": "other@example.com"}, "invalid_grant"),
        ({"aud": "https://oauth2.googleapis.com/token"}, "invalid_grant"),
        ({"aud": None}, "invalid_grant"),
        ({"iat": None}, "invalid_grant"),
        ({"exp": None}, "invalid_grant"),
        ({"exp": int(time.time()) - 1}, "invalid_grant"),
        ({"iat": int(time.time()) + 4000, "exp": int(time.time()) + 5000}, "invalid_grant"),
        ({"exp": int(time.time()) + 7200}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/cloud-platform"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
    ],
)
def test_an_invalid_assertion_gets_no_token(fcm: FcmClient, changed: dict[str, Any], error: str) -> None:
    answer = fcm.request_token(fcm.assertion(**changed))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"assertion": "abc"}, "invalid_grant"),
    ],
)
def test_another_grant_gets_no_token(fcm: FcmClient, form: dict[str, str], error: str) -> None:
    answer = fcm.request_token(**form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_the_token_endpoint_accepts_only_forms(fcm: FcmClient) -> None:
    url = fcm.account["token_uri"]
    assert fcm.client.post(url, content=b"\xff").json()["error"] == "invalid_request"
    assert fcm.client.get(url).status_code == 405
    assert fcm.client.post(url.replace("/token", "/other")).status_code == 404


def test_an_outage_of_the_token_endpoint_can_be_scripted(providers: Providers, fcm: FcmClient) -> None:
    providers.script("token", outcome="internal_failure", times=1)
    providers.script("token", status=503, retry_after="1", times=1)
    providers.script("token", fault="no_body", outcome="invalid_grant", times=1)
    providers.script("token", fault="close", times=1)
    providers.script("token", fault="silence", times=1)
    assert (fcm.request_token().status_code, fcm.request_token().headers["retry-after"]) == (500, "1")
    assert (answer := fcm.request_token()).status_code == 400
    assert answer.content == b""
    with pytest.raises(httpx.TransportError):
        fcm.request_token()
    with pytest.raises(httpx.ReadTimeout):
        fcm.client.post(fcm.account["token_uri"], data={"grant_type": "x"}, timeout=0.2)
    assert fcm.request_token().status_code == 200
    assert providers.counters("token")["outcomes"] == {
        "internal_failure": 1, "503": 1, "invalid_grant": 1, "close": 1, "silence": 1, "Success": 1,
    }  # fmt: skip


def test_the_service_account_has_the_members_of_googles(fcm: FcmClient) -> None:
    wanted = {"type", "project_id", "private_key_id", "private_key", "client_email", "token_uri"}
    assert wanted <= set(fcm.account)
    assert json.dumps(fcm.account["private_key"]).startswith('"-----BEGIN PRIVATE KEY-----')
