"""Fixtures over a real PostgreSQL, for modules that name this one in their `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    """The DSN of this module's database, empty at its start."""
    return postgres.new_database()
