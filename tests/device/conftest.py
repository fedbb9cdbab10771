from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigil.device.commands import device
from sigil.device.commands.context import CommandContext
from tests.device.clock import MovingClock, Run
from tests.device.fake_server import FakeServer
from tests.device.listening import Listen, listening_at
from tests.device.tls import Tls, tls_server


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def server(clock: MovingClock) -> Iterator[FakeServer]:
    with FakeServer(clock) as running:
        yield running


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    with tls_server(tmp_path) as running:
        yield running


@pytest.fixture
def listen(clock: MovingClock) -> Listen:
    return listening_at(clock)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def run(clock: MovingClock, home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `device …`; `terminal=True` and `input` for prompts."""
    monkeypatch.setenv("SIGIL_DEVICE_HOME", str(home))

    def running(*arguments: str, terminal: bool = False, input: str | None = None) -> Result:
        context = CommandContext(clock, clock.sleep, lambda: terminal)
        return CliRunner().invoke(device, arguments, obj=context, input=input)

    return running
