"""The session in which the page that committed issues API keys, with a test clock."""

from __future__ import annotations

from typing import Any

import falcon.testing
import pytest

from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.config.settings import Config
from sigil.first_boot.commitment import SESSION_SECONDS, Session
from sigil.protocol.api_key import issue_api_key
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from tests.support.services import SECRETS, START, Clock

TOKEN = "the-token-of-the-session"
WITH_API_KEY = {"Authorization": f"Bearer {issue_api_key(SECRETS.api_key, 'sgk_test_', bytes(16))}"}
# The public key of a P-256 point whose private key was discarded.
DEVICE_KEY = "Ars9SPKzqli5juAlatg0oU2nk5iLCZtCLTeW3TUB0t94"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock: Clock) -> Any:
    parts = Dependencies(store=MemoryStore(kinds=KINDS, clock=clock), long_polls=LongPolls(), time_of_day=clock)
    return build(Snapshot(Config(), SECRETS, Session.begin(TOKEN, START)), parts, WorkerLifecycle(0, 1))


async def get_first_challenge(
    conductor: falcon.testing.ASGIConductor, token: str = TOKEN, **headers: str
) -> tuple[int, Any]:
    """The status, and `received` or the code of an error."""
    given = {"Authorization": f"Bearer {token}", **headers}
    answer = await conductor.simulate_get("/init/first-challenge", headers=given, host="localhost")
    return answer.status_code, answer.json.get("received", answer.json.get("error", {}).get("code"))


async def create_challenge(conductor: falcon.testing.ASGIConductor) -> str:
    """Its ID."""
    body = {"device_public_key": DEVICE_KEY, "action": {"type": "login", "description": "First call"}}
    answer = await conductor.simulate_post("/challenge", json=body, headers=WITH_API_KEY)
    assert answer.status_code == 201, answer.text
    return str(answer.json["challenge_id"])


async def post(conductor: falcon.testing.ASGIConductor, path: str, token: str = TOKEN) -> tuple[int, str]:
    """The status, and the code of an error."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = await conductor.simulate_post(path, body="{}", headers=headers, host="localhost")
    return answer.status_code, answer.json.get("error", {}).get("code", "")


async def test_keys_are_issued_for_half_an_hour_only(app: Any, clock: Clock) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        assert await post(conductor, "/init/api-keys") == (201, "")
        assert await post(conductor, "/init/api-keys", "another") == (401, "UNAUTHORIZED")
        clock.now = START + SESSION_SECONDS - 1
        assert await post(conductor, "/init/api-keys") == (201, "")
        clock.now = START + SESSION_SECONDS
        assert await post(conductor, "/init/api-keys") == (401, "UNAUTHORIZED")


async def test_a_late_commit_is_409_during_the_session_and_404_after_it(app: Any, clock: Clock) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        assert await post(conductor, "/init/commit") == (409, "ALREADY_INITIALIZED")
        clock.now = START + SESSION_SECONDS
        assert await post(conductor, "/init/commit") == (404, "NOT_FOUND")


async def test_a_server_set_up_without_the_wizard_does_not_have_its_endpoints(clock: Clock) -> None:
    parts = Dependencies(store=MemoryStore(kinds=KINDS, clock=clock), long_polls=LongPolls(), time_of_day=clock)
    async with falcon.testing.ASGIConductor(
        build(Snapshot(Config(), SECRETS), parts, WorkerLifecycle(0, 1))
    ) as conductor:
        for path in ("/init/api-keys", "/init/commit"):
            assert await post(conductor, path) == (404, "NOT_FOUND")
        assert await get_first_challenge(conductor) == (404, "NOT_FOUND")


async def test_the_page_that_committed_learns_of_the_first_challenge(app: Any, clock: Clock) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        assert await get_first_challenge(conductor) == (200, False)
        await create_challenge(conductor)
        assert await get_first_challenge(conductor) == (200, True)
        clock.now = START + SESSION_SECONDS
        assert await get_first_challenge(conductor) == (401, "UNAUTHORIZED")


async def test_a_claimed_enrolment_is_no_challenge(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        begun = await conductor.simulate_post(
            "/enrolment", json={"account": "a"}, headers=WITH_API_KEY, host="localhost", protocol="https"
        )
        assert begun.status_code == 201, begun.text
        claim = {"token": begun.json["token"], "claim_id": "0" * 32}
        assert (await conductor.simulate_post("/enrolment/claim", json=claim)).status_code == 200
        assert await get_first_challenge(conductor) == (200, False)


async def test_a_challenge_that_has_ended_counts_too(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        made = await create_challenge(conductor)
        ended = await conductor.simulate_delete(f"/v1/auth/challenge/{made}", headers=WITH_API_KEY)
        assert ended.status_code == 200
        assert await get_first_challenge(conductor) == (200, True)


async def test_no_other_client_learns_whether_the_server_is_used(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        assert await get_first_challenge(conductor, "another") == (401, "UNAUTHORIZED")
        answer = await conductor.simulate_get("/init/first-challenge")
        assert answer.status_code == 401
        assert await get_first_challenge(conductor, Origin="https://evil.example") == (403, "ORIGIN_REFUSED")
        for _ in range(10):
            await get_first_challenge(conductor, "another")
        assert await get_first_challenge(conductor, "another") == (429, "RATE_LIMITED")
