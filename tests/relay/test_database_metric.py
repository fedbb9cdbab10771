"""`relay_database_up`, for both databases: while a database takes no writes, a scrape is still answered in time."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.flows.test_metrics import Sample, scrape
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay
from tests.support.postgres import PostgresServer

FROM_DATABASE = ("relay_devices_limit", "relay_pushes_queued", "relay_push_queue_oldest_seconds")
# Prometheus gives a scrape ten seconds by default.
SCRAPE_SECONDS = 10


@pytest.fixture(scope="module")
def postgres_of_its_own() -> Iterator[PostgresServer]:
    """The tests stop it."""
    with PostgresServer() as server:
        yield server


def sample(relay: LiveRelay) -> Sample:
    with relay.client() as client:
        began = time.monotonic()
        found = scrape(client)
    assert time.monotonic() - began < SCRAPE_SECONDS
    return found


def is_up(relay: LiveRelay, up: int) -> bool:
    found = sample(relay)
    assert all(((name, ()) in found) == bool(found["relay_database_up", ()]) for name in FROM_DATABASE)
    return found["relay_database_up", ()] == up


def test_on_sqlite_another_writer_is_an_outage() -> None:
    with LiveRelay() as relay:
        assert is_up(relay, 1)
        (path,) = (relay.directory / "data").glob("*.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            wait_until(lambda: is_up(relay, 0), "the outage")
            db.execute("ROLLBACK")
        wait_until(lambda: is_up(relay, 1), "the database")


@contextmanager
def frozen_sessions(postgres: PostgresServer) -> Iterator[None]:
    """Open sessions get no answers either."""
    sessions = [int(pid) for pid in Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split()]
    for pid in sessions:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in sessions:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
def test_on_postgresql_a_server_that_is_gone_or_hangs_is_an_outage(
    postgres_of_its_own: PostgresServer, fault: str
) -> None:
    postgres = postgres_of_its_own
    settings = {"DATABASE_URL": postgres.new_database(), "TOKEN_ENCRYPTION_KEY": "k" * 32, "RELAY_WORKERS": "2"}
    with LiveRelay(**settings) as relay:
        assert is_up(relay, 1)
        if fault == "frozen":
            with postgres.frozen(), frozen_sessions(postgres):
                wait_until(lambda: is_up(relay, 0), "the outage")
        else:
            postgres.stop()
            wait_until(lambda: is_up(relay, 0), "the outage")
            postgres.start()
        wait_until(lambda: is_up(relay, 1), "the database")
