"""Both clients: lost answers are fetched again with the same bytes, and each error of a server is a typed one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.device.enrolment import errors
from sigil.device.enrolment.async_client import AsyncEnrolmentClient
from sigil.device.enrolment.client import EnrolmentClient
from sigil.device.enrolment.steps import Offer, completion_body
from sigil.device.errors import DeviceError, ServerRefused, Unreachable
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.connection import ServerConnection
from tests.device.clock import MovingClock
from tests.device.enrolment.http import response
from tests.device.enrolment.offers import (
    CLAIM_ID,
    TARGET,
    URL,
    completed,
    honest_offer,
    members,
    offered,
    pin,
    session_at_server,
)

Answer = dict[str, Any] | httpx.Response | Exception
Call = Callable[[Any], Any]


class Server:
    """Answers in turn, repeats the last answer, and keeps what it received."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.received: list[tuple[str, bytes]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.received.append((request.url.path, request.content))
        assert len(self.received) < 5000, "a wait without an end"
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return response(answer.status_code, answer.extensions["json"])
        return response(200, answer)


def problem(status: int, code: str, /, **details: Any) -> httpx.Response:
    return response(status, {"error": {"code": code, "message": "The server's text.", "details": details}})


def call(kind: str, server: Server, clock: MovingClock, use: Call) -> Any:
    """`use` with a client of that kind; its result is awaited where it has to be."""
    if kind == "sync":
        with ServerConnection(URL, transport=httpx.MockTransport(server)) as connection:
            return use(EnrolmentClient(pin(), connection, clock=clock, sleep=clock.sleep))

    async def run() -> Any:
        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        async with AsyncServerConnection(URL, transport=httpx.MockTransport(server)) as connection:
            return await use(AsyncEnrolmentClient(pin(), connection, clock=clock, sleep=sleep))

    return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


def test_an_enrolment_from_claim_to_enrolled(kind: str, clock: MovingClock) -> None:
    device, server = Device.generate(), Server(offered(members()))
    offer: Offer = call(kind, server, clock, lambda client: client.claim(TARGET, CLAIM_ID))
    assert json.loads(server.received[0][1]) == {"token": TARGET.token, "claim_id": CLAIM_ID}
    body = completion_body(device, offer)
    session, answer = call(kind, Server(completed()), clock, lambda client: client.complete(offer, body))
    assert (session, answer.status) == (session_at_server(offer, device.wire_key), "confirming")
    waiting = Server({"status": "confirming"}, {"status": "enrolled", "device_credential": "sdc1.a.b.c"})
    assert call(kind, waiting, clock, lambda client: client.wait(offer)) == "sdc1.a.b.c"
    assert [path for path, _ in waiting.received] == ["/enrolment/wait"] * 2
    assert clock.slept == [0.5]


@pytest.mark.parametrize("step", ["claim", "complete"])
def test_a_lost_answer_is_fetched_again_with_the_same_bytes(kind: str, clock: MovingClock, step: str) -> None:
    offer = honest_offer()
    body = completion_body(Device.generate(), offer)
    answer = offered(members()) if step == "claim" else completed()
    server = Server(httpx.ReadError("lost"), problem(503, "OVERLOADED"), answer)
    call(
        kind,
        server,
        clock,
        lambda client: client.claim(TARGET, CLAIM_ID) if step == "claim" else client.complete(offer, body),
    )
    assert len(set(server.received)) == 1
    assert clock.slept == [1.0, 2.0]


def test_a_server_that_stays_unreachable_is_given_up_after_five_attempts(kind: str, clock: MovingClock) -> None:
    server = Server(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        call(kind, server, clock, lambda client: client.claim(TARGET, CLAIM_ID))
    assert (len(server.received), clock.slept) == (5, [1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((404, "ENROLMENT_NOT_FOUND", {}), errors.TokenUnknown, "new enrolment"),
        ((409, "ENROLMENT_CLAIMED", {}), errors.TokenClaimed, "If it was not yours"),
        ((409, "ENROLMENT_CLOSED", {"status": "cancelled"}), errors.EnrolmentClosed, "ended (cancelled)"),
        ((409, "ENROLMENT_CLOSED", {"status": "confirming"}), errors.EnrolmentClosed, "Another key was sent"),
        ((410, "ENROLMENT_EXPIRED", {}), errors.EnrolmentExpired, "expired"),
        ((401, "INVALID_SIGNATURE", {}), errors.CompletionUnsigned, "signature"),
        ((400, "INVALID_PUBLIC_KEY", {}), errors.KeyRefused, "--suite"),
        ((403, "ATTESTATION_REQUIRED", {}), errors.AttestationNeeded, "Use a phone; for tests, --test-root"),
        ((403, "ATTESTATION_INVALID", {"reason": "level"}), errors.AttestationRefused, "Run the same command again"),
        ((403, "ATTESTATION_INVALID", {"reason": "app_unknown"}), errors.AttestationRefused, "restart the phone"),
        ((403, "NOT_ELIGIBLE", {}), errors.DeviceRevoked, "Ask the operator"),
        ((400, "INVALID_REQUEST", {"path": "$.x"}), errors.RequestRefused, "The server's text."),
    ],
)
def test_each_error_of_the_server_is_typed_and_says_what_to_do(
    kind: str, clock: MovingClock, answer: tuple[int, str, dict[str, Any]], error: type[DeviceError], text: str
) -> None:
    status, code, details = answer
    with pytest.raises(ServerRefused) as refused:
        call(kind, Server(problem(status, code, **details)), clock, lambda client: client.claim(TARGET, CLAIM_ID))
    assert type(refused.value) is error
    assert (refused.value.code, refused.value.status) == (code, status)
    assert text in refused.value.message
    assert TARGET.token not in refused.value.message
    assert clock.slept == []


def test_an_error_of_a_proxy_stays_as_it_is(kind: str, clock: MovingClock) -> None:
    with pytest.raises(ServerRefused) as refused:
        call(
            kind,
            Server(response(403, "no error of the protocol")),
            clock,
            lambda client: client.claim(TARGET, CLAIM_ID),
        )
    assert refused.value.code == "HTTP_403"


def test_an_enrolment_that_the_server_lost_after_the_key_was_sent_has_an_unknown_outcome(
    kind: str, clock: MovingClock
) -> None:
    offer, server = honest_offer(), Server(problem(404, "ENROLMENT_NOT_FOUND"))
    body = completion_body(Device.generate(), offer)
    for use in (lambda client: client.complete(offer, body), lambda client: client.wait(offer)):
        with pytest.raises(errors.EnrolmentOutcomeUnknown):
            call(kind, server, clock, use)


def test_a_wait_that_the_server_never_ends_ends_with_the_offer(kind: str, clock: MovingClock) -> None:
    server = Server({"status": "confirming"})
    with pytest.raises(errors.EnrolmentEndUnknown):
        call(kind, server, clock, lambda client: client.wait(honest_offer()))
    assert len(server.received) == pytest.approx(1320, abs=10)
