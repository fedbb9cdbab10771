"""How failures count against the rate limit of an address, through the whole application in one process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import falcon.testing
import pytest

from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.config.settings import Config
from sigil.device import Device
from sigil.protocol.api_key import issue_api_key
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from tests.support.services import SECRETS

KEY = issue_api_key(SECRETS.api_key, "sgk_test_", os.urandom(16))
GOOD = {"Authorization": f"Bearer {KEY}"}
RESPOND = {"challenge_id": "0" * 8, "signature": "AA==", "fingerprint": "0" * 64}


async def status_of(conductor: falcon.testing.ASGIConductor, path: str, body: Any = None, **options: Any) -> int:
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    method = "GET" if body is None else "POST"
    answer = await conductor.simulate_request(
        method, path, body=None if body is None else text, headers=headers, **options
    )
    return int(answer.status_code)


class NoObserver:
    def challenge(self, *_: object) -> None: ...

    def approval(self, *_: object) -> None: ...


@pytest.fixture
def app() -> Any:
    parts = Dependencies(store=MemoryStore(kinds=KINDS, clock=time.time), long_polls=LongPolls(), observer=NoObserver())
    return build(Snapshot(Config(rate_limit=60, workers=1), SECRETS), parts, WorkerLifecycle(0, 1))


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (lambda: ("/respond", RESPOND), 404),
        (lambda: ("/respond", {**RESPOND, "extra": 1}), 400),
        (lambda: ("/respond", "not JSON"), 400),
        (lambda: ("/respond", {**RESPOND, "device_public_key": "AA=="}), 400),
        (lambda: ("/respond", {**RESPOND, "device_public_key": Device.generate().wire_key}), 400),
        (lambda: ("/respond", "x" * 70_000), 413),
        (lambda: ("/device/pending", {"device_public_key": "AA==", "timestamp": "x", "signature": "AA=="}), 400),
    ],
)
async def test_six_failures_use_up_the_rate_limit_of_an_address(
    app: Any, failure: Callable[[], tuple[str, Any]], status: int
) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        seen = [await status_of(conductor, *failure()) for _ in range(6)]
        assert seen == [status] * 6
        assert await status_of(conductor, "/respond", RESPOND) == 429
        assert await status_of(conductor, "/info") == 429
        assert await status_of(conductor, "/health") == 200


async def test_wrong_keys_count_and_a_valid_key_is_never_limited(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        wrong = {"Authorization": f"Bearer {KEY[:-1]}"}
        seen = {await status_of(conductor, "/challenge", {}, headers=wrong) for _ in range(8)}
        assert seen == {401}
        assert await status_of(conductor, "/info") == 429
        challenge = {"device_public_key": Device.generate().wire_key, "action": {"type": "a", "description": "b"}}
        assert await status_of(conductor, "/challenge", challenge, headers=GOOD) == 201


async def test_errors_have_the_order_of_the_protocol(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        large = "x" * 70_000
        assert await status_of(conductor, "/nowhere", large) == 404
        assert await status_of(conductor, "/info", large) == 405
        assert await status_of(conductor, "/challenge", large) == 413
        assert await status_of(conductor, "/challenge", "{}", headers={"Content-Type": "text/plain"}) == 401
        assert await status_of(conductor, "/challenge", "x", headers={**GOOD, "Content-Type": "text/plain"}) == 415
        assert await status_of(conductor, "/challenge", "x", headers=GOOD) == 400
