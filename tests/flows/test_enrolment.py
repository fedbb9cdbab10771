"""Enrolments on real servers with two workers: claims at once, workers that are killed, lost answers, long polls."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.enrolment import EnrolmentOffered
from tests.flows.backend import Backend
from tests.support.enrolling import Phone, new_key
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event

SECRET = "the webhook secret of these enrolments"


def begin(client: httpx.Client, account: str = "alice", **members: Any) -> dict[str, Any]:
    answer = client.post("/enrolment", json={"account": account, **members})
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    return begun


def body(message: Any) -> Any:
    members = msgspec.to_builtins(message)
    return {name: value for name, value in members.items() if value is not None}


def claim(client: httpx.Client, phone: Phone) -> httpx.Response:
    answer = client.post("/enrolment/claim", json=body(phone.claim()))
    if answer.status_code == 200:
        phone.accept(msgspec.json.decode(answer.content, type=EnrolmentOffered))
    return answer


def complete(client: httpx.Client, phone: Phone) -> httpx.Response:
    return client.post("/enrolment/complete", json=body(phone.completion()))


def status(client: httpx.Client, begun: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = client.get(f"/enrolment/{begun['enrolment_id']}/status{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def confirm(client: httpx.Client, begun: dict[str, Any], code: str) -> httpx.Response:
    return client.post(f"/enrolment/{begun['enrolment_id']}/confirm", json={"code": code})


def code_of(error: httpx.Response) -> str:
    code: str = error.json()["error"]["code"]
    return code


async def test_of_fifty_claims_at_once_one_wins(server: LiveServer, backend: Backend) -> None:
    with server.authorised() as client:
        begun = begin(client)
    phones = [Phone(begun["token"]) for _ in range(50)]

    async def claim_alone(phone: Phone) -> int:
        # A connection of its own, so that both workers take part.
        async with server.async_client() as own:
            answer = await own.post("/enrolment/claim", json=body(phone.claim()), headers={"Authorization": ""})
        return answer.status_code

    statuses = await asyncio.gather(*(claim_alone(phone) for phone in phones))
    assert sorted(statuses) == [200] + [409] * 49
    winner = phones[statuses.index(200)]
    with server.client() as device, server.authorised() as client:
        assert claim(device, winner).status_code == 200
        assert status(client, begun)["status"] == "claimed"
        completions = [complete(device, winner) for _ in range(3)]
        assert [answer.status_code for answer in completions] == [200] * 3
        assert len({answer.content for answer in completions}) == 1


def test_long_polls_see_every_change_and_none_between_two_polls_is_lost(server: LiveServer) -> None:
    with server.authorised() as client, server.client() as device:
        begun = begin(client)
        phone = Phone(begun["token"])
        seen: list[str] = ["pending"]

        def page() -> None:
            with server.authorised() as own:
                while seen[-1] not in {"enrolled", "failed", "expired"}:
                    seen.append(status(own, begun, f"?wait=25&known={seen[-1]}")["status"])

        began = time.monotonic()
        reader = threading.Thread(target=page)
        reader.start()
        claim(device, phone)
        wait_until(lambda: seen[-1] == "claimed", "the page to see the claim")
        shown = phone.session(complete(device, phone).json()["sas_nonce"])
        wait_until(lambda: seen[-1] == "confirming", "the page to see the completion")
        answers: list[dict[str, Any]] = []

        def person() -> None:
            with server.client() as own:
                answers.append(own.post("/enrolment/wait", json=body(phone.waiting(25))).json())

        waiting = threading.Thread(target=person)
        waiting.start()
        assert confirm(client, begun, shown.code).status_code == 200
        reader.join()
        waiting.join()
        assert seen == ["pending", "claimed", "confirming", "enrolled"]
        assert answers == [{"status": "enrolled"}]
        # Three polls that had ended by time-out would have taken 75 s.
        assert time.monotonic() - began < 60
        assert status(client, begun, "?wait=25&known=claimed")["status"] == "enrolled"


@pytest.fixture
def two_workers() -> Iterator[tuple[LiveServer, WebhookEndpoint]]:
    with WebhookEndpoint() as endpoint:
        server = LiveServer(
            workers=2,
            SIGIL_RATE_LIMIT="off",
            SIGIL_MAX_ENROLMENTS="2",
            WEBHOOK_URL=endpoint.url,
            WEBHOOK_SECRET=SECRET,
        )
        with server:
            yield server, endpoint


def kill_a_worker(server: LiveServer, connection: httpx.Client) -> None:
    """The one that served the connection, so that another answers the next request."""
    stream = connection.get("/health").extensions["network_stream"]
    victim = server.worker_of(stream.get_extra_info("client_addr")[1])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.workers() and len(server.workers()) == 2, "a new worker")


def test_a_worker_that_is_killed_between_the_steps_loses_nothing(
    two_workers: tuple[LiveServer, WebhookEndpoint],
) -> None:
    server, endpoint = two_workers
    old = new_key()
    # Each step is sent again after the kill, as if its answer had been lost.
    with server.authorised() as client:
        headers = {"Idempotency-Key": "once"}
        wanted = {"account": "alice", "replaces": encode_base64(old.public.wire)}
        begun = client.post("/enrolment", json=wanted, headers=headers).json()
        kill_a_worker(server, client)
    with server.authorised() as client:
        again = client.post("/enrolment", json=wanted, headers=headers)
        assert (again.json(), again.headers["Idempotent-Replayed"]) == (begun, "true")
    phone = Phone(begun["token"], replaced=old)
    for step in (claim, complete):
        with server.client() as device:
            first = step(device, phone)
            assert first.status_code == 200
            kill_a_worker(server, device)
        with server.client() as device:
            assert step(device, phone).content == first.content
    shown = phone.session(first.json()["sas_nonce"])
    with server.authorised() as client:
        wrong = f"{(int(shown.code) + 1) % 10**6:06}"
        assert confirm(client, begun, wrong).json()["error"]["details"] == {"attempts_left": 2}
        kill_a_worker(server, client)
    with server.authorised() as client:
        # The count survived, too.
        assert confirm(client, begun, wrong).json()["error"]["details"] == {"attempts_left": 1}
        done = confirm(client, begun, shown.code).json()
        kill_a_worker(server, client)
    # A whole restart adopts the store.
    server.stop()
    server.start()
    assert [line["sessions"] for line in server.log() if line["event"] == "sigil_starting"] == ["new", "adopted"]
    with server.authorised() as client, server.client() as device:
        assert confirm(client, begun, shown.code).json() == done == status(client, begun)
        assert done["replaced"] == old.public.fingerprint
        assert device.post("/enrolment/wait", json=body(phone.waiting())).json() == {"status": "enrolled"}
        # Ended ones do not count against the limit of open ones.
        for _ in range(2):
            begin(client)
        full = client.post("/enrolment", json={"account": "one too many"})
        assert (full.status_code, code_of(full)) == (429, "TOO_MANY_PENDING")
        metrics = device.get("/metrics").text
        assert "sigil_enrolments_pending 2.0" in metrics
        assert 'sigil_rate_limited_total{limit="key_enrolments"} 1.0' in metrics
    arrival = wait_until(lambda: endpoint.arrivals, "the webhook event")[0]
    verified_event(arrival, SECRET)
    event = arrival.event
    assert (event["type"], event["enrolment_id"], event["account"]) == (
        "enrolment.completed", begun["enrolment_id"], "alice",
    )  # fmt: skip
    assert event["device_public_key"] == done["device_public_key"]
    assert phone.token not in server.log_path.read_text()
    assert shown.code not in {str(value) for line in server.log() for value in line.values()}
