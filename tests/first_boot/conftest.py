"""The shared server in init mode. A test that commits, kills or stops a server starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.first_boot.init_mode_server import InitModeServer


@pytest.fixture(scope="session")
def init_mode_server() -> Iterator[InitModeServer]:
    with InitModeServer(SIGIL_SERVER_NAME="Söhne & <Co>") as running:
        yield running
