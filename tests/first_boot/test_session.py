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
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from tests.support.services import SECRETS, START, Clock

TOKEN = "the-token-of-the-session"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(clock: Clock) -> Any:
    parts = Dependencies(store=MemoryStore(kinds=KINDS, clock=clock), long_polls=LongPolls(), time_of_day=clock)
    return build(Snapshot(Config(), SECRETS, Session.begin(TOKEN, START)), parts, WorkerLifecycle(0, 1))


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
