"""A real server, a server that fails by script, and both clients behind one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from sigil.sdk import AsyncSigilAuth, Challenge, ChallengeStatus, Clock, SigilAuth
from tests.sdk.faults import FaultServer
from tests.support.live import LiveServer

SOME_KEY = "sgk_test_" + "0123456789abcdef" * 4


class Calls(Protocol):
    """`auth` of either client, with synchronous calls."""

    def create_challenge(self, *args: Any, **options: Any) -> Challenge: ...
    def get_status(self, challenge_id: str) -> ChallengeStatus: ...
    def await_result(self, challenge_id: str, timeout: float | None = None) -> ChallengeStatus: ...
    def cancel(self, challenge_id: str) -> ChallengeStatus: ...


class Awaited:
    """The asynchronous client's methods, each run to its end."""

    def __init__(self, runner: asyncio.Runner, auth: Any) -> None:
        self._runner, self._auth = runner, auth

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._auth, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))


class MovingClock:
    """Time advances only while something sleeps; randomness returns the highest number."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def as_clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep, self.async_sleep, lambda low, high: high)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


Connect = Callable[..., Calls]


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of either kind, and closes them at the end; returns the attribute `part` of the client."""
    opened: list[Callable[[], Any]] = []
    with asyncio.Runner() as runner:

        def make(url: str, part: str = "auth", **options: Any) -> Any:
            if request.param == "sync":
                client = SigilAuth(url, **options)
                opened.append(client.close)
                return getattr(client, part)
            async_client = AsyncSigilAuth(url, **options)
            opened.append(lambda: runner.run(async_client.aclose()))
            return Awaited(runner, getattr(async_client, part))

        yield make
        for close in opened:
            close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", SOME_KEY)
    for name in ("SIGIL_SERVICE_URL", "SIGIL_API_KEY_FILE", "SIGIL_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_DEVICE_RATE="off") as running:
        yield running


@pytest.fixture
def auth(server: LiveServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Either client, connected to the real server."""
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    return connect(server.url, ca_file=server.certificate)


@pytest.fixture
def mpa(server: LiveServer, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same for approval requests."""
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    return connect(server.url, "mpa", ca_file=server.certificate)


@pytest.fixture(scope="session")
def faulty_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    with FaultServer(tmp_path_factory.mktemp("faulty")) as running:
        yield running


@pytest.fixture
def faulty(faulty_session: FaultServer) -> FaultServer:
    """Scripted, and without a real server behind it unless a test sets `upstream`."""
    faulty_session.script, faulty_session.seen, faulty_session.upstream = [], [], None
    faulty_session.hung_up.clear()
    return faulty_session


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def scripted(faulty: FaultServer, connect: Connect, clock: MovingClock) -> Calls:
    """Either client, connected to the scripted server; only sleeping advances the clock."""
    return connect(faulty.url, ca_file=faulty.certificate, clock=clock.as_clock())


@pytest.fixture
def enrolment(faulty: FaultServer, connect: Connect, clock: MovingClock) -> Any:
    """`enrolment` of either client, connected to the scripted server."""
    return connect(faulty.url, "enrolment", ca_file=faulty.certificate, clock=clock.as_clock())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
