"""`webhooks.verify` accepts only events that the server signed recently with this secret."""

from __future__ import annotations

import base64
import http.client
import io
import json
import pickle
import wsgiref.headers
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sigil.protocol.webhook import signed_headers, standard_secret
from sigil.sdk import (
    ConfigurationError,
    SigilError,
    WebhookHeadersMissing,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooOld,
    webhooks,
)
from tests.sdk.test_secrets import shown

SECRET, OLD = "the secret of this server: long enough", "the secret that it had before this one"
NOW = 1_777_026_735
ID = "evt_2407b2e9-fe16-4c40-a72c-3e70112b4abb"
BODY = json.dumps(
    {
        "id": ID,
        "type": "challenge.verified",
        "status": "verified",
        "timestamp": "2026-04-24T10:32:15Z",
        "key_id": "0523fec9",
        "action_type": "login",
        "challenge_id": ID[4:],
        "fingerprint": "b8" * 32,
        "decision": "approved",
        "of a later server": {},
    }
).encode()
STANDARD, SIGIL = ("webhook-id", "webhook-timestamp", "webhook-signature"), ("X-Sigil-Timestamp", "X-Sigil-Signature")


def headers(*secrets: str, at: int = NOW, only: tuple[str, ...] = (*STANDARD, *SIGIL)) -> dict[str, str]:
    made = signed_headers(secrets or (SECRET,), ID, at, BODY)
    return {name: made[name] for name in only}


def verify(given: Any, body: Any = BODY, secret: Any = SECRET, now: float = NOW) -> webhooks.WebhookEvent:
    return webhooks.verify(given, body, secret, clock=lambda: now)


def test_an_event_has_the_members_of_the_body() -> None:
    event = verify(headers())
    assert (event.id, event.type, event.status, event.decision) == (ID, "challenge.verified", "verified", "approved")
    assert event.timestamp == datetime(2026, 4, 24, 10, 32, 15, tzinfo=UTC)
    assert (event.challenge_id, event.fingerprint, event.mpa_id) == (ID[4:], "b8" * 32, None)
    assert event.approved


def test_an_event_is_frozen_and_has_no_truth_value() -> None:
    event = verify(headers())
    with pytest.raises(AttributeError):
        event.status = "rejected"  # type: ignore[misc]
    with pytest.raises(TypeError, match="approved"):
        assert event


@pytest.mark.parametrize("family", [STANDARD, SIGIL], ids=["standard", "sigil"])
def test_either_family_of_headers_is_enough(family: tuple[str, ...]) -> None:
    assert verify(headers(only=family)).id == ID


@pytest.mark.parametrize(
    "form",
    [
        lambda h: {name.upper(): value for name, value in h.items()},
        lambda h: {name.title(): value for name, value in h.items()},
        lambda h: list(h.items()),
        lambda h: [(name.encode(), value.encode()) for name, value in h.items()],
        lambda h: ((name, value) for name, value in h.items()),
    ],
    ids=["upper case", "title case", "pairs", "pairs of bytes", "a generator"],
)
def test_headers_may_have_any_shape(form: Any) -> None:
    assert verify(form(headers())).id == ID


def _http_server(made: dict[str, str]) -> Any:
    """`self.headers` of http.server.BaseHTTPRequestHandler."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in made.items())
    return http.client.parse_headers(io.BytesIO(f"{lines}\r\n".encode()))


def _environ(made: dict[str, str]) -> dict[str, Any]:
    names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in made.items()}
    return {"REQUEST_METHOD": "POST", "wsgi.version": (1, 0), "wsgi.input": io.BytesIO(), **names}


def _django(made: dict[str, str]) -> Any:
    return pytest.importorskip("django.http.request").HttpHeaders(_environ(made))


def _falcon(made: dict[str, str]) -> Any:
    return pytest.importorskip("falcon.testing").create_req(headers=made).headers


def _falcon_asgi(made: dict[str, str]) -> Any:
    return pytest.importorskip("falcon.testing").create_asgi_req(headers=made).headers


def _starlette(made: dict[str, str]) -> Any:
    return pytest.importorskip("starlette.datastructures").Headers(made)


def _werkzeug(made: dict[str, str]) -> Any:
    return pytest.importorskip("werkzeug.datastructures").Headers(made)


def _werkzeug_environ(made: dict[str, str]) -> Any:
    return pytest.importorskip("werkzeug.datastructures").EnvironHeaders(_environ(made))


def _aiohttp(made: dict[str, str]) -> Any:
    return pytest.importorskip("multidict").CIMultiDictProxy(pytest.importorskip("multidict").CIMultiDict(made))


FRAMEWORKS = [
    _http_server,
    _django,
    _falcon,
    _falcon_asgi,
    _starlette,
    _werkzeug,
    _werkzeug_environ,
    _aiohttp,
    lambda made: wsgiref.headers.Headers(list(made.items())),
    httpx.Headers,
    lambda made: [(name.lower().encode(), value.encode()) for name, value in made.items()],
    lambda made: [[name, value] for name, value in made.items()],
    lambda made: {name: [value] for name, value in made.items()},
    lambda made: {name: bytearray(value.encode()) for name, value in made.items()},
    lambda made: [*made.items(), *made.items(), ("x-unset", None), (5, 6)],
]


@pytest.mark.parametrize("form", FRAMEWORKS)
def test_headers_of_a_framework_are_taken_as_they_are(form: Any) -> None:
    for family in (STANDARD, SIGIL):
        assert verify(form({"Host": "localhost", **headers(only=family)})).id == ID
    with pytest.raises(WebhookSignatureWrong):
        verify(form(headers(OLD)))
    with pytest.raises(WebhookHeadersMissing):
        verify(form({"Host": "localhost"}))


@pytest.mark.parametrize(
    "given",
    [None, 5, "webhook-id: x", b"webhook-id", object(), ["webhook-id"], [("a", "b", "c")], [None], type, print],
    ids=lambda given: type(given).__name__,
)
def test_an_object_without_headers_is_named(given: Any) -> None:
    with pytest.raises(WebhookHeadersMissing, match=f"headers is {type(given).__name__}") as missing:
        verify(given)
    assert missing.value.__context__ is None


def test_a_wsgi_environ_is_named() -> None:
    with pytest.raises(WebhookHeadersMissing, match=r"WSGI environ \(request.META\)"):
        verify(_environ(headers()))


@pytest.mark.parametrize("name", [*STANDARD[:2], SIGIL[0]])
def test_two_values_of_one_header_are_not_signed(name: str) -> None:
    """A proxy and a framework may each take another one."""
    family = STANDARD if name in STANDARD else SIGIL
    pairs = list(headers(only=family).items())
    for given in ([*pairs, (name.upper(), "1")], [(name.upper(), "1"), *pairs]):
        with pytest.raises(WebhookSignatureWrong):
            verify(given)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_the_body_is_bytes_of_any_kind(form: Any) -> None:
    assert verify(headers(), form(BODY)).id == ID


def test_either_end_may_write_the_secret_as_standard_webhooks_do() -> None:
    prefixed = standard_secret(SECRET)
    assert prefixed == "whsec_" + base64.b64encode(SECRET.encode()).decode()
    assert verify(headers(prefixed, only=STANDARD)).id == ID
    assert verify(headers(only=STANDARD), secret=prefixed).id == ID
    assert verify(headers(prefixed), secret=prefixed).id == ID


@pytest.mark.parametrize(
    ("signed", "known"),
    [((SECRET, OLD), SECRET), ((SECRET, OLD), OLD), ((SECRET,), f"{SECRET},{OLD}"), ((OLD,), [SECRET, OLD])],
    ids=["new receiver", "old receiver", "both known, new sent", "both known, old sent"],
)
def test_during_a_rotation_either_end_may_be_first(signed: tuple[str, ...], known: Any) -> None:
    assert verify(headers(*signed), secret=known).id == ID


def test_after_the_rotation_the_sigil_header_alone_is_signed_with_the_new_secret() -> None:
    with pytest.raises(WebhookSignatureWrong):
        verify(headers(SECRET, OLD, only=SIGIL), secret=OLD)


@pytest.mark.parametrize("late", [-301, 301])
@pytest.mark.parametrize("family", [STANDARD, SIGIL, (*STANDARD, *SIGIL)], ids=["standard", "sigil", "both"])
def test_a_signature_too_old_or_in_the_future_is_rejected(late: int, family: tuple[str, ...]) -> None:
    with pytest.raises(WebhookTooOld, match="clock"):
        verify(headers(only=family), now=NOW + late)
    assert verify(headers(only=family), now=NOW + late * 300 // 301).id == ID


def test_the_default_clock_is_the_machines() -> None:
    with pytest.raises(WebhookTooOld):
        webhooks.verify(headers(), BODY, SECRET)


def test_a_fresh_timestamp_of_one_family_does_not_count_for_the_other() -> None:
    """An old message with a new timestamp in the other family."""
    old, new = headers(at=NOW - 4000), {name: value for name, value in headers("x" * 32).items() if name in SIGIL}
    with pytest.raises(WebhookTooOld):
        verify(old | new)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_0", "X-Sigil-Timestamp": "1777026736"},
        {"webhook-id": f"{ID}\udcff", "X-Sigil-Timestamp": "\udcff"},
        {"webhook-id": "é", "X-Sigil-Timestamp": "é"},
        {"webhook-timestamp": str(NOW + 1), "X-Sigil-Signature": "v1,"},
        {"webhook-signature": "v1,AAAA", "X-Sigil-Signature": ""},
        {"webhook-signature": " ", "X-Sigil-Signature": "v1," + "0" * 64},
        {"webhook-signature": "é\udcff", "X-Sigil-Signature": "鍵"},
        {"webhook-timestamp": f" {NOW}", "X-Sigil-Timestamp": f"+{NOW}"},
        {"webhook-timestamp": "", "X-Sigil-Timestamp": "١٧٧٧٠٢٦٧٣٥"},
        {"webhook-timestamp": "9" * 40, "X-Sigil-Timestamp": "1.7e9"},
    ],
)
def test_a_changed_header_is_rejected(change: dict[str, str]) -> None:
    with pytest.raises(WebhookSignatureWrong):
        verify(headers() | change)


def test_a_message_of_one_family_is_not_valid_in_the_other() -> None:
    """Both are HMACs under the same key; they differ in that a timestamp has only digits."""
    made = headers()
    standard = base64.b64decode(made["webhook-signature"][3:]).hex()
    forged = {"X-Sigil-Timestamp": ID, "X-Sigil-Signature": f"v1,{standard}"}
    with pytest.raises(WebhookSignatureWrong):
        verify(forged, f"{NOW}.".encode() + BODY)
    sigil = base64.b64encode(bytes.fromhex(made["X-Sigil-Signature"][3:])).decode()
    with pytest.raises(WebhookSignatureWrong):
        verify({"webhook-id": str(NOW), "webhook-timestamp": "", "webhook-signature": f"v1,{sigil}"}, BODY[1:])


def test_a_changed_body_is_rejected_even_with_the_same_content() -> None:
    with pytest.raises(WebhookSignatureWrong, match="bytes as received"):
        verify(headers(), json.dumps(json.loads(BODY), indent=1).encode())


def test_a_byte_order_mark_is_no_part_of_a_secret_and_hidden_characters_are_named() -> None:
    """By the rule of the server, which would sign with another key otherwise."""
    assert verify(headers(), secret=f"\ufeff{SECRET}\r\n").id == ID
    for secret, problem in (
        (f"'{SECRET}'", "is in quotes"),
        (f"{SECRET}\u200b", "ZERO WIDTH SPACE"),
        (f"{OLD},{SECRET}\u00a0", "NO-BREAK SPACE"),
    ):
        with pytest.raises(ConfigurationError, match=problem) as raised:
            verify(headers(), secret=secret)
        assert SECRET not in str(raised.value)


def test_another_secret_is_rejected_and_the_error_names_the_setting() -> None:
    with pytest.raises(WebhookSignatureWrong, match="WEBHOOK_SECRET"):
        verify(headers(OLD))


@pytest.mark.parametrize("present", [(), STANDARD[:2], STANDARD[1:], SIGIL[:1], ("webhook-id", *SIGIL[1:])])
def test_missing_headers_are_named(present: tuple[str, ...]) -> None:
    with pytest.raises(WebhookHeadersMissing, match="webhook-"):
        verify(headers(only=present))


@pytest.mark.parametrize("body", [json.loads(BODY), BODY.decode(), None, 1], ids=["dict", "text", "None", "int"])
def test_a_parsed_body_is_an_error_that_names_the_alternative(body: Any) -> None:
    with pytest.raises(ConfigurationError, match="raw bytes"):
        verify(headers(), body)


@pytest.mark.parametrize(
    "secret", ["", "x" * 31, f"{SECRET},", [], [SECRET, ""], None, SECRET.encode(), "whsec_" + "!" * 40]
)
def test_an_unusable_secret_is_an_error_and_not_repeated(secret: Any) -> None:
    """Above all an empty key: anyone can sign with it."""
    with pytest.raises(ConfigurationError) as refused:
        verify(headers(), secret=secret)
    assert SECRET not in shown(refused.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"id":1}', b"[" * 5000, BODY.replace(b"2026-04", b"2026-44")]
)
def test_a_signed_body_of_another_form_is_rejected(body: bytes) -> None:
    with pytest.raises(WebhookRefused, match="form"):
        verify(signed_headers([SECRET], ID, NOW, body), body)


@pytest.mark.parametrize(
    ("given", "now"), [(headers(OLD), NOW), (headers(), NOW + 999), ({}, NOW)], ids=["wrong", "old", "no headers"]
)
def test_no_error_shows_the_secret_even_with_local_variables(given: dict[str, str], now: float) -> None:
    with pytest.raises(WebhookRefused) as refused:
        verify(given, now=now)
    assert SECRET not in shown(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert isinstance(refused.value, SigilError)
    assert pickle.loads(pickle.dumps(refused.value)).code == refused.value.code  # noqa: S301


def test_events_of_a_later_server_can_be_read() -> None:
    body = BODY.replace(b"challenge.verified", b"challenge.postponed")
    event = verify(signed_headers([SECRET], ID, NOW, body), body)
    assert (event.type, event.approved) == ("challenge.postponed", False)


ENROLMENT: dict[str, Any] = {
    "id": ID,
    "type": "enrolment.completed",
    "status": "enrolled",
    "timestamp": "2026-04-24T10:32:15Z",
    "key_id": "0523fec9",
    "enrolment_id": ID[4:],
    "account": "zoë",
    "confirm": "code",
    "fingerprint": "b8" * 32,
    "device_public_key": "AAAA",
}


def enrolment_event(**changed: Any) -> webhooks.WebhookEvent:
    body = {name: value for name, value in (ENROLMENT | changed).items() if value is not None}
    raw = json.dumps(body).encode()
    return webhooks.verify(signed_headers([SECRET], ID, NOW, raw), raw, SECRET, clock=lambda: NOW)


def test_an_enrolment_event_has_the_key_once_it_is_completed_and_is_no_approval() -> None:
    done = enrolment_event(
        attestation={
            "kind": "android-key", "level": "hardware", "binding": "direct", "attested_at": "2026-04-24T10:32:15Z",
        }
    )  # fmt: skip
    assert (done.enrolled, done.approved, done.device_public_key, done.account) == (True, False, "AAAA", "zoë")
    assert (done.enrolment_id, done.confirm, done.action_type) == (ID[4:], "code", None)
    assert done.attestation is not None
    assert done.attestation.level == "hardware"
    failed = enrolment_event(type="enrolment.failed", status="failed", reason="wrong_code", device_public_key=None)
    assert (failed.enrolled, failed.approved, failed.reason) == (False, False, "wrong_code")
    with pytest.raises(TypeError, match="enrolled"):
        bool(failed)


@pytest.mark.parametrize(
    "changed",
    [
        {"device_public_key": None},
        {"enrolment_id": None},
        {"type": "enrolment.failed"},
        {"type": "enrolment.expired"},
        {"type": "challenge.verified", "device_public_key": None},
        {"type": "mpa.approved", "device_public_key": None},
        {"type": "mpa.approved", "action_type": "login"},
    ],
)
def test_a_signed_event_of_another_form_is_refused(changed: dict[str, Any]) -> None:
    """Above all the key of a device that is not enrolled."""
    with pytest.raises(WebhookRefused, match="not of the documented form"):
        enrolment_event(**changed)
