"""Enrolment over HTTP, on the application of one worker: what an address pays, the link's address, query parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import falcon.testing
import pytest

from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.config.settings import Config
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.enrolment.link import parse_uri
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from tests.support.services import SECRETS, Clock

KEY = {"Authorization": f"Bearer {issue_api_key(SECRETS.api_key, 'sgk_test_', bytes(16))}"}
Conductor = falcon.testing.ASGIConductor


def app(**settings: Any) -> Any:
    clock = Clock()
    parts = Dependencies(store=MemoryStore(kinds=KINDS, clock=clock), long_polls=LongPolls(), time_of_day=clock)
    return build(Snapshot(Config(**settings), SECRETS), parts, WorkerLifecycle(0, 1))


@pytest.fixture
async def conductor() -> AsyncIterator[Conductor]:
    async with Conductor(app(rate_limit=60, public_url="https://auth.example.com")) as running:
        yield running


async def begin(conductor: Conductor, host: str = "localhost") -> Any:
    return await conductor.simulate_post("/enrolment", json={"account": "alice"}, headers=KEY, host=host)


async def statuses(conductor: Conductor, path: str, body: dict[str, Any], count: int) -> Counter[int]:
    return Counter([(await conductor.simulate_post(path, json=body)).status_code for _ in range(count)])


async def test_a_repetition_costs_a_fifth_of_a_request(conductor: Conductor) -> None:
    """Each claim is signed anew, which costs 40 µs: without a price, one token would buy them without end."""
    begun = (await begin(conductor)).json
    found = await statuses(conductor, "/enrolment/claim", {"token": begun["token"], "claim_id": "0" * 32}, 400)
    assert found.keys() == {200, 429}
    assert 290 <= found[200] <= 330


async def test_waiting_costs_the_same(conductor: Conductor) -> None:
    begun = (await begin(conductor)).json
    claim = {"token": begun["token"], "claim_id": "0" * 32}
    assert await statuses(conductor, "/enrolment/claim", claim, 1) == {200: 1}
    body = {"enrolment_id": begun["enrolment_id"], "claim_id": "0" * 32}
    found = await statuses(conductor, "/enrolment/wait", body, 400)
    assert found.keys() == {200, 429}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/enrolment/claim", {"token": "0" * 12, "claim_id": "0" * 32}, 404),
        ("/enrolment/claim", {"token": "O" * 12, "claim_id": "0" * 32}, 400),
        ("/enrolment/wait", {"enrolment_id": "11111111-1111-4111-8111-111111111111", "claim_id": "0" * 32}, 404),
        (
            "/enrolment/complete",
            {
                "enrolment_id": "11111111-1111-4111-8111-111111111111",
                "claim_id": "0" * 32,
                "device_public_key": "A2sX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKW",
                "signature": "AAAA",
            },
            404,
        ),
    ],
)
async def test_a_failure_costs_ten_requests(conductor: Conductor, path: str, body: dict[str, Any], status: int) -> None:
    found = await statuses(conductor, path, body, 20)
    assert found.keys() == {status, 429}
    assert found[status] <= 8


async def test_the_address_of_a_link_is_the_public_one_else_that_of_the_request() -> None:
    async with Conductor(app(public_url="https://auth.example.com")) as conductor:
        assert parse_uri((await begin(conductor, "10.0.0.7:8443")).json["uri"]).base_url == "https://auth.example.com"
    async with Conductor(app()) as conductor:
        assert parse_uri((await begin(conductor, "Sigil.example.com:8443")).json["uri"]).base_url == (
            "https://sigil.example.com:8443"
        )
        assert (await begin(conductor, "no_host")).status_code == 400
    # Behind a TLS proxy the server's own scheme is http, which no device accepts.
    async with Conductor(app(http_only=True)) as conductor:
        refused = await begin(conductor, "sigil.example.com")
        assert refused.status_code == 400
        assert "SIGIL_PUBLIC_URL" in refused.json["error"]["message"]
        assert parse_uri((await begin(conductor, "localhost:8080")).json["uri"]).base_url == "http://localhost:8080"


@pytest.mark.parametrize("query", ["known=begun", "known=", "known=pending&known=claimed", "wait=26"])
async def test_a_wrong_parameter_is_named(conductor: Conductor, query: str) -> None:
    begun = (await begin(conductor)).json
    found = await conductor.simulate_get(f"/enrolment/{begun['enrolment_id']}/status", query_string=query, headers=KEY)
    assert (found.status_code, found.json["error"]["details"]) == (400, {"path": query.partition("=")[0]})


async def test_a_replay_is_marked(conductor: Conductor) -> None:
    for replayed in (None, "true"):
        answer = await conductor.simulate_post(
            "/enrolment", json={"account": "alice"}, headers={**KEY, "Idempotency-Key": "one"}
        )
        assert answer.status_code == 201
        assert answer.headers.get("idempotent-replayed") == replayed
        assert answer.headers["cache-control"] == "no-store"
