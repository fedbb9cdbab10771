"""Rejected requests of servers: one response for every reason on the wire, and the reason in the log and the metric."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_args

import httpx
import pytest

from relay.metrics import SERVER_REJECTIONS
from relay.registration.rejections import AGAIN_SECONDS, LINES_PER_MINUTE, Reason, RejectionLog, ServerRejected
from sigil.protocol.errors import UnsupportedMediaType
from tests.flows.test_metrics import scrape
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.services import Clock

ID = "ab" * 32


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay() as relay:
        yield relay


@pytest.fixture(scope="module")
def client(relay: LiveRelay) -> Iterator[httpx.Client]:
    with relay.client() as client:
        yield client


@pytest.fixture(scope="module")
def trusted(client: httpx.Client) -> Server:
    server = Server(client)
    assert server.register().status_code == 200
    return server


def lines(relay: LiveRelay, reason: str) -> list[dict[str, Any]]:
    return [line for line in relay.events("server_request_rejected") if line["reason"] == reason]


OUTCOMES = {"push_keys": ["a"]}


def with_a_clock(seconds: int) -> Callable[[Server], httpx.Response]:
    return lambda server: server.post("/push/outcomes", OUTCOMES, timestamp=str(int(time.time()) + seconds))


def repeated(server: Server) -> httpx.Response:
    nonce = secrets.token_hex(16)
    assert server.post("/push/outcomes", OUTCOMES, nonce=nonce).status_code == 200
    return server.post("/push/outcomes", OUTCOMES, nonce=nonce)


def signed_for_another_path(server: Server) -> httpx.Response:
    body = json.dumps(OUTCOMES).encode()
    headers = server.headers("POST", "/relay/push/outcomes", body)
    return server.client.post("/push/outcomes", content=body, headers=headers)


def without_its_nonce(server: Server) -> httpx.Response:
    headers = server.headers("POST", "/push/outcomes", b"{}")
    del headers["X-Sigil-Nonce"]
    return server.client.post("/push/outcomes", content=b"{}", headers=headers)


def of_another_server(server: Server) -> httpx.Response:
    return Server(server.client).post("/push/outcomes", OUTCOMES)


def another_registration(server: Server) -> httpx.Response:
    return Server(server.client).register()


@pytest.mark.parametrize(
    ("reason", "request_of", "message"),
    [
        ("clock", with_a_clock(3600), "s ahead of the relay's: synchronise the clocks of both hosts"),
        ("clock", with_a_clock(-90), "s behind the relay's: synchronise the clocks of both hosts"),
        ("unknown_server", of_another_server, "add its id to RELAY_TRUSTED_SERVERS and send SIGHUP"),
        ("unknown_server", another_registration, "sigil-relay servers trust"),
        ("signature", signed_for_another_path, "a proxy must pass the path and the body of RELAY_URL unchanged"),
        ("nonce_used", repeated, "a proxy between the server and the relay must not repeat requests"),
        ("malformed", without_its_nonce, "a proxy removed X-Sigil headers"),
    ],
)
def test_each_kind_of_rejection_is_named_in_the_log_and_the_metric_and_not_on_the_wire(
    trusted: Server, reason: str, request_of: Callable[[Server], httpx.Response], message: str
) -> None:
    with LiveRelay() as relay, relay.client() as client:
        server = Server(client, trusted.identity)
        assert server.register().status_code == 200
        response = request_of(server)
        (line,) = lines(relay, reason)
        counted = scrape(client)["relay_server_requests_rejected_total", (("reason", reason),)]
    assert response.status_code == 401
    assert response.json()["error"] == {
        "code": "UNAUTHORIZED",
        "message": "Sign the request with the key of a server that this relay knows.",
    }
    assert (line["level"], line["address"], counted) == ("warn", "127.0.0.1", 1)
    assert message in line["message"]
    assert ("server_id" in line) == (reason != "malformed")


def test_a_server_that_a_restarted_relay_no_longer_lists_is_named_with_the_mend(trusted: Server) -> None:
    other, listed = "cd" * 32, trusted.identity.server_id
    with LiveRelay(RELAY_TRUST_ON_FIRST_USE="false", RELAY_TRUSTED_SERVERS=listed) as relay:
        with relay.client() as client:
            assert Server(client, trusted.identity).register().status_code == 200
        relay.stop()
        relay.environ["RELAY_TRUSTED_SERVERS"] = other
        relay.start()
        with relay.client() as client:
            server = Server(client, trusted.identity)
            answers = [server.post("/push/outcomes", OUTCOMES), server.register(), server.register()]
        assert [answer.status_code for answer in answers] == [401] * 3
        (line,) = lines(relay, "unknown_server")
        assert line["server_id"] == listed


def test_the_first_request_after_the_database_is_new_is_counted_and_not_logged(trusted: Server) -> None:
    """The server registers and repeats it."""
    with LiveRelay(RELAY_TRUSTED_SERVERS=trusted.identity.server_id) as relay, relay.client() as client:
        assert Server(client, trusted.identity).post("/push/outcomes", OUTCOMES).status_code == 401
        assert scrape(client)["relay_server_requests_rejected_total", (("reason", "not_registered"),)] == 1
        assert relay.events("server_request_rejected") == []


def test_a_request_of_another_form_is_named(relay: LiveRelay, trusted: Server) -> None:
    assert trusted.post("/push", {"pushes": "none"}).status_code == 400
    wait_until(lambda: lines(relay, "form"), "the line")
    (line,) = lines(relay, "form")
    assert (line["error"], line["server_id"]) == ("INVALID_REQUEST", trusted.identity.server_id)


def test_requests_with_invented_ids_fill_no_log_and_hide_no_known_server(relay: LiveRelay, trusted: Server) -> None:
    for _ in range(40):
        of_another_server(trusted)
    assert with_a_clock(600)(trusted).status_code == 401
    assert len(lines(relay, "unknown_server")) <= LINES_PER_MINUTE
    assert [line["server_id"] for line in lines(relay, "clock")] == [trusted.identity.server_id]


class Requests:
    """A log of rejections under a clock that the test sets."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.clock, self.counted, self._capfd = Clock(), list[str](), capfd
        self._log = RejectionLog(self.counted.append, monotonic=self.clock)

    def reject(self, server_id: str, *, known: bool, error: Exception | None = None) -> None:
        error = error or ServerRejected("signature")
        with suppress(type(error)), self._log.observing(server_id, "192.0.2.7", lambda: known):
            raise error

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capfd.readouterr().out.splitlines()]


@pytest.fixture
def requests(capfd: pytest.CaptureFixture[str]) -> Requests:
    return Requests(capfd)


def test_one_server_and_reason_is_one_line_and_again_after_ten_minutes_with_the_count(requests: Requests) -> None:
    for _ in range(5):
        requests.reject(ID, known=True)
    requests.clock.now += AGAIN_SECONDS
    requests.reject(ID, known=True)
    first, second = requests.lines()
    assert "count" not in first
    assert second["count"] == 5
    assert requests.counted == ["signature"] * 6


def test_the_lines_of_a_minute_are_bounded_and_those_beyond_are_counted(requests: Requests) -> None:
    for number in range(LINES_PER_MINUTE + 3):
        requests.reject(f"{number:064x}", known=False)
    requests.reject(ID, known=True)
    assert len(requests.lines()) == LINES_PER_MINUTE + 1
    requests.clock.now += 60
    requests.reject(ID, known=False)
    (line,) = requests.lines()
    assert line["suppressed"] == 3


def test_an_unverified_id_of_a_request_of_another_form_is_not_logged(requests: Requests) -> None:
    requests.reject("any text at all", known=False, error=UnsupportedMediaType())
    (line,) = requests.lines()
    assert "server_id" not in line
    assert (line["reason"], line["error"]) == ("form", "UNSUPPORTED_MEDIA_TYPE")


def test_the_metric_has_a_label_for_every_reason() -> None:
    assert get_args(Reason) == SERVER_REJECTIONS
