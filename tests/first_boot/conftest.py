"""The shared server in init mode. A test that commits, kills or stops a server starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.first_boot.init_mode_server import InitModeServer


@pytest.fixture(scope="session")
def init_mode_server() -> Iterator[InitModeServer]:
    """Without a token: only then is the Host of a request checked."""
    with InitModeServer(SIGIL_SERVER_NAME="Söhne & <Co>", SIGIL_INIT_TOKEN="off") as running:
        yield running
