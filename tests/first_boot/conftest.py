"""One server in init mode for all that look and set nothing up; whoever commits, kills or stops starts another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.first_boot.newborn import Newborn


@pytest.fixture(scope="session")
def newborn() -> Iterator[Newborn]:
    with Newborn(SIGIL_SERVER_NAME="Söhne & <Co>") as running:
        yield running
