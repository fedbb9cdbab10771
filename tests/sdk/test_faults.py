"""Clients when the server, or a proxy in front of it, misbehaves."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest

from sigil.device import Device
from sigil.sdk import (
    Action,
    AnswerUnusable,
    AsyncSigilAuth,
    CertificateRefused,
    ConfigurationError,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    ResultTimeout,
    ServerFailed,
    SigilAuth,
    TooManyPending,
)
from tests.sdk.conftest import SOME_KEY, Calls, Connect, MovingClock
from tests.sdk.faults import (
    TRICKLE_SECONDS,
    FaultServer,
    Step,
    answer,
    cut,
    endless,
    processed_and_cut,
    refuse,
    trickling,
)
from tests.support.live import LiveServer
from tests.support.ports import free_port

ACTION = Action("login", "Sign in to Example")
ID = "0a1b2c3d-0000-4000-8000-000000000001"
HEAD = b"HTTP/1.1 200 OK\r\n"


def status_body(**members: Any) -> bytes:
    body = {
        "challenge_id": ID,
        "status": "pending",
        "fingerprint": "ab" * 32,
        "pictogram": ["🍎"] * 5,
        "pictogram_speakable": "apple",
        "action": {"type": "login", "description": "Sign in", "later": 1},
        "expires_at": "2030-01-01T00:00:00Z",
        "push": {"status": "disabled", "later": 1},
        "later": ["members of later versions are ignored"],
    }
    return json.dumps(body | members).encode()


PENDING, VERIFIED = answer(200, status_body()), answer(200, status_body(status="verified", decision="approved"))


@pytest.mark.parametrize("lost", [[processed_and_cut], [processed_and_cut, cut, refuse(502)]], ids=["once", "thrice"])
def test_a_creation_whose_response_is_lost_makes_exactly_one_challenge(
    server: LiveServer, faulty: FaultServer, scripted: Calls, lost: list[Step]
) -> None:
    device = Device.generate()
    with server.authorised() as faulty.upstream:
        faulty.script = list(lost)
        challenge = scripted.create_challenge(device.wire_key, ACTION)
        # A device may have five pending challenges: a duplicate would be the sixth and fail.
        last = [scripted.create_challenge(device.wire_key, ACTION) for _ in range(4)]
        with pytest.raises(TooManyPending, match="TOO_MANY_PENDING"):
            scripted.create_challenge(device.wire_key, ACTION)
    tries = faulty.seen[: len(lost) + 1]
    assert len({(seen.body, seen.headers["idempotency-key"]) for seen in tries}) == 1
    assert len({item.challenge_id for item in (challenge, *last)}) == 5


def test_a_response_after_three_failures_is_the_result(
    faulty: FaultServer, scripted: Calls, clock: MovingClock
) -> None:
    faulty.script = [refuse(503), refuse(500), cut, VERIFIED]
    assert scripted.get_status(ID).verified
    assert clock.slept == [0.25, 0.5, 1.0]


def test_pauses_are_random_between_0_and_a_ceiling_that_doubles(faulty: FaultServer, connect: Connect) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    clock = MovingClock()
    auth = connect(faulty.url, ca_file=faulty.certificate, clock=_with(clock, uniform), tries=8)
    faulty.script = [refuse(503)] * 7 + [PENDING]
    auth.get_status(ID)
    assert drawn == [(0.0, high) for high in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)]


def _with(clock: MovingClock, uniform: Any) -> Any:
    base = clock.as_clock()
    return type(base)(base.monotonic, base.sleep, base.async_sleep, uniform)


def test_retry_after_delays_the_retry(faulty: FaultServer, scripted: Calls, clock: MovingClock) -> None:
    faulty.script = [refuse(429, "RATE_LIMITED", Retry_After="7"), VERIFIED]
    assert scripted.get_status(ID).verified
    assert clock.slept == [7.25]


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 40])
def test_a_retry_after_of_another_form_is_ignored(
    faulty: FaultServer, scripted: Calls, clock: MovingClock, value: str
) -> None:
    faulty.script = [refuse(503, Retry_After=value), VERIFIED]
    assert scripted.get_status(ID).verified
    assert clock.slept == [0.25]


def test_a_retry_after_beyond_the_timeout_raises_at_once(
    faulty: FaultServer, scripted: Calls, clock: MovingClock
) -> None:
    faulty.script = [refuse(429, "RATE_LIMITED", Retry_After="86400")]
    with pytest.raises(RateLimited) as limited:
        scripted.get_status(ID)
    assert (limited.value.retry_after, clock.slept, len(faulty.seen)) == (3600, [], 1)


def test_tries_are_bounded(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [refuse(503, Retry_After="1")] * 9
    with pytest.raises(Overloaded) as overloaded:
        scripted.get_status(ID)
    assert (len(faulty.seen), overloaded.value.retry_after) == (5, 1)


def test_all_tries_together_end_with_the_timeout(faulty: FaultServer, scripted: Calls, clock: MovingClock) -> None:
    faulty.script = [refuse(503, Retry_After="12")] * 9
    with pytest.raises(Overloaded):
        scripted.get_status(ID)
    assert (len(faulty.seen), sum(clock.slept)) == (3, 24.75)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 418])
def test_a_permanent_error_is_not_retried(faulty: FaultServer, scripted: Calls, status: int) -> None:
    faulty.script = [refuse(status, "OF_A_LATER_VERSION")]
    with pytest.raises(Exception, match="OF_A_LATER_VERSION") as refused:
        scripted.cancel(ID)
    assert getattr(refused.value, "status", None) == status
    assert len(faulty.seen) == 1


def test_an_error_page_of_a_proxy_has_an_error_class(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(502, b"<html>Bad gateway</html>", X_Request_Id="abc-1")] * 5
    with pytest.raises(ServerFailed) as failed:
        scripted.get_status(ID)
    assert (failed.value.code, failed.value.status, failed.value.request_id) == ("HTTP_502", 502, "abc-1")


def test_a_redirect_is_not_followed(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(307, Location=f"{faulty.url}/elsewhere")]
    with pytest.raises(AnswerUnusable, match="Redirects are not followed"):
        scripted.get_status(ID)
    assert len(faulty.seen) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 5000,
        status_body(status="perhaps"),
        status_body(expires_at="2030-01-01T00:00:00"),
        status_body(challenge_id=ID.replace("1", "2")),
    ],
    ids=["empty", "list", "not text", "deep", "unknown status", "time without zone", "another challenge"],
)
def test_a_malformed_response_is_never_a_result(faulty: FaultServer, scripted: Calls, body: bytes) -> None:
    faulty.script = [answer(200, body)]
    with pytest.raises(AnswerUnusable):
        scripted.get_status(ID)
    assert len(faulty.seen) == 1


def test_an_endless_response_is_cut_off(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [endless]
    with pytest.raises(AnswerUnusable, match="larger than"):
        scripted.get_status(ID)
    assert faulty.hung_up.wait(5)


@pytest.mark.parametrize(
    ("start", "drop"),
    [(HEAD + b"Content-Length: 999\r\n\r\n", b" "), (HEAD + b"X-Long: ", b"a"), (b"", b"")],
    ids=["body", "header", "nothing at all"],
)
def test_a_response_that_trickles_ends_with_the_timeout(
    faulty: FaultServer, connect: Connect, start: bytes, drop: bytes
) -> None:
    auth = connect(faulty.url, ca_file=faulty.certificate, timeout=1.0)
    faulty.script = [trickling(start, drop)]
    began = time.monotonic()
    with pytest.raises(ConnectionFailed):
        auth.get_status(ID)
    assert time.monotonic() - began < TRICKLE_SECONDS


def test_a_response_that_breaks_off_is_retried(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [trickling(HEAD + b"Content-Length: 999\r\n\r\n", b"{", seconds=0.05), VERIFIED]
    assert scripted.get_status(ID).verified


def test_a_response_that_is_not_http_is_a_broken_connection(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [trickling(b"SSH-2.0-OpenSSH\r\n\r\n", b"", seconds=0.05), VERIFIED]
    assert scripted.get_status(ID).verified


def test_an_unreachable_server_is_an_error_after_all_tries(connect: Connect, clock: MovingClock) -> None:
    auth = connect(f"https://127.0.0.1:{free_port()}", clock=clock.as_clock())
    with pytest.raises(ConnectionFailed) as failed:
        auth.get_status(ID)
    assert (failed.value.status, len(clock.slept)) == (None, 4)
    assert "nothing listens there; check the address" in str(failed.value)


def test_an_unknown_name_is_called_so(connect: Connect, clock: MovingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailed, match="its name is not known"):
        connect("https://nowhere.invalid", clock=clock.as_clock()).get_status(ID)


def test_an_untrusted_certificate_is_rejected_at_once(
    faulty: FaultServer, connect: Connect, clock: MovingClock
) -> None:
    with pytest.raises(CertificateRefused, match="ca_file or tls_pin, or set SIGIL_CA_FILE"):
        connect(faulty.url, clock=clock.as_clock()).get_status(ID)
    assert (faulty.seen, clock.slept) == ([], [])


def test_the_certificate_file_of_another_server_is_rejected(
    server: LiveServer, faulty: FaultServer, connect: Connect
) -> None:
    with pytest.raises(CertificateRefused):
        connect(faulty.url, ca_file=server.certificate).get_status(ID)
    assert faulty.seen == []


def test_the_pinned_certificate_is_enough(faulty: FaultServer, connect: Connect) -> None:
    colons = ":".join(faulty.pin[i : i + 2].upper() for i in range(0, 64, 2))
    for pin in (faulty.pin, colons):
        faulty.script = [VERIFIED]
        assert connect(faulty.url, tls_pin=pin).get_status(ID).verified


def test_a_server_without_the_pinned_certificate_receives_no_byte_of_a_request(
    server: LiveServer, faulty: FaultServer, connect: Connect
) -> None:
    wrong = "00" * 32
    with pytest.raises(CertificateRefused, match="tls_pin"):
        connect(faulty.url, tls_pin=wrong).get_status(ID)
    assert faulty.seen == []


def test_a_server_that_answers_polls_at_once_is_polled_with_backoff(
    faulty: FaultServer, scripted: Calls, clock: MovingClock
) -> None:
    faulty.script = [PENDING] * 6 + [VERIFIED]
    assert scripted.await_result(ID, timeout=60).verified
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert [seen.path.rpartition("=")[2] for seen in faulty.seen] == ["25"] * 7


def test_waiting_ends_with_the_callers_timeout(faulty: FaultServer, scripted: Calls, clock: MovingClock) -> None:
    faulty.script = [PENDING] * 9
    began = clock.now
    with pytest.raises(ResultTimeout) as late:
        scripted.await_result(ID, timeout=2.5)
    assert clock.now - began == 2.5
    assert late.value.last is not None


def test_a_timeout_of_0_is_one_poll(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [PENDING, PENDING, VERIFIED]
    for timeout in (0, -1):
        with pytest.raises(ResultTimeout):
            scripted.await_result(ID, timeout=timeout)
    assert scripted.await_result(ID, timeout=0).verified


def test_waiting_ends_when_no_challenge_can_live_longer(
    faulty: FaultServer, scripted: Calls, clock: MovingClock
) -> None:
    faulty.script = [PENDING] * 200
    began = clock.now
    with pytest.raises(ResultTimeout):
        scripted.await_result(ID)
    assert clock.now - began == 330


def test_a_failure_during_the_wait_is_raised(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [PENDING, *[cut] * 5]
    with pytest.raises(ConnectionFailed):
        scripted.await_result(ID, timeout=200)


def test_silence_past_the_callers_timeout_is_a_timeout(faulty: FaultServer, connect: Connect) -> None:
    auth = connect(faulty.url, ca_file=faulty.certificate)
    faulty.script = [trickling(b"", b"")]
    began = time.monotonic()
    with pytest.raises(ResultTimeout) as late:
        auth.await_result(ID, timeout=0.1)
    assert time.monotonic() - began < TRICKLE_SECONDS
    assert late.value.last is None


@pytest.mark.parametrize("challenge_id", ["", "..", f"{ID}/../..", f"{ID}\n", "x" * 36, f"{ID}?wait=25"])
def test_a_malformed_id_never_reaches_the_server(faulty: FaultServer, scripted: Calls, challenge_id: str) -> None:
    for call in (scripted.get_status, scripted.await_result, scripted.cancel):
        with pytest.raises(NotFound) as missing:
            call(challenge_id)
        assert missing.value.status is None
    assert faulty.seen == []


def test_an_idempotency_key_that_no_header_can_carry_is_rejected(faulty: FaultServer, scripted: Calls) -> None:
    for key in ("", "two words", "ü", "x" * 256, "a\r\nb"):
        with pytest.raises(InvalidRequest) as refused:
            scripted.create_challenge("AAAA", ACTION, idempotency_key=key)
        assert refused.value.path == "Idempotency-Key"
    assert faulty.seen == []


def test_a_client_keeps_its_connection(faulty: FaultServer, scripted: Calls) -> None:
    ports: list[int] = []

    def recording(handler: Any) -> None:
        ports.append(handler.client_address[1])
        VERIFIED(handler)

    faulty.script = [recording] * 3
    for _ in range(3):
        scripted.get_status(ID)
    assert len(set(ports)) == 1


def test_neither_proxies_nor_certificates_are_taken_from_the_environment(
    faulty: FaultServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(faulty.certificate))
    faulty.script = [VERIFIED]
    assert connect(faulty.url, ca_file=faulty.certificate).get_status(ID).verified
    with pytest.raises(CertificateRefused):
        connect(faulty.url).get_status(ID)


def test_a_closed_client_raises_an_error(faulty: FaultServer) -> None:
    with SigilAuth(faulty.url, ca_file=faulty.certificate) as sigil:
        assert repr(sigil) == f"<SigilAuth {faulty.url}>"
    with pytest.raises(ConfigurationError, match="closed"):
        sigil.auth.get_status(ID)


async def test_a_cancelled_wait_leaves_the_client_usable(faulty: FaultServer) -> None:
    faulty.script = [trickling(b"", b""), VERIFIED]
    async with AsyncSigilAuth(faulty.url, ca_file=faulty.certificate) as sigil:
        waiting = asyncio.create_task(sigil.auth.await_result(ID))
        while not faulty.seen:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await sigil.auth.get_status(ID)).verified


def test_a_request_has_the_key_the_body_and_no_compression(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [refuse(400)]
    with pytest.raises(InvalidRequest):
        scripted.create_challenge("AAAA", ACTION, number_matching=False)
    (seen,) = faulty.seen
    assert (seen.method, seen.path) == ("POST", "/challenge")
    assert seen.headers["authorization"] == f"Bearer {SOME_KEY}"
    assert seen.headers["accept-encoding"] == "identity"
    action = {"type": "login", "description": "Sign in to Example"}
    assert json.loads(seen.body) == {"device_public_key": "AAAA", "action": action, "number_matching": False}
