"""A pooler in front of PostgreSQL: in session mode the relay works, in any other it ends with one line."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from relay.registry.postgres.pooler import MESSAGE
from sigil.device import Device
from tests.relay.devices_of_relay import register, registration
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]

KEY = "a-key-of-more-than-32-characters-for-tests"


def run(*arguments: str, dsn: str) -> subprocess.CompletedProcess[str]:
    relay = LiveRelay(DATABASE_URL=dsn, TOKEN_ENCRYPTION_KEY=KEY)
    try:
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env=relay.environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    finally:
        relay.__exit__(None, None, None)


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["check-config"]])
def test_a_pooler_in_transaction_mode_ends_the_start_with_one_line(
    postgres: PostgresServer, database: str, command: list[str]
) -> None:
    with PgBouncer(postgres, "transaction") as pooler:
        ended = run(*command, dsn=pooler.dsn(database))
    assert (ended.returncode, ended.stderr) == (1, f"sigil-relay: {MESSAGE}\n")
    assert "worker_ready" not in ended.stdout


def test_a_pooler_in_statement_mode_ends_the_start_with_one_line(postgres: PostgresServer, database: str) -> None:
    with PgBouncer(postgres, "statement") as pooler:
        ended = run("serve", dsn=pooler.dsn(database))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "statement pooling mode" in ended.stderr


def registering(http: httpx.Client, url: str) -> list[int]:
    """The statuses of many registrations at once, from addresses of their own."""

    def one(number: int) -> int:
        transport = httpx.HTTPTransport(local_address=f"127.0.9.{number % 200 + 1}")
        with httpx.Client(base_url=url, transport=transport, trust_env=False, timeout=DEADLINE) as client:
            return client.post("/devices/register", json=registration(Device.generate(), client, url)).status_code

    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(one, range(40)))


def test_in_session_mode_it_works_and_a_change_of_the_mode_makes_it_unhealthy(
    postgres: PostgresServer, database: str
) -> None:
    """Never INTERNAL: a client retries after 503."""
    with (
        PgBouncer(postgres, "session") as pooler,
        LiveRelay(DATABASE_URL=pooler.dsn(database), TOKEN_ENCRYPTION_KEY=KEY) as relay,
        relay.client() as http,
    ):
        register(Device.generate(), http, relay.url)
        assert set(registering(http, relay.url)) == {201}
        assert http.get("/health").status_code == 200
        pooler.switch("transaction")
        seen: set[int] = set()
        wait_until(
            lambda: seen.update(registering(http, relay.url)) or relay.events("database_pooler_shares_sessions"),
            "a statement to be lost",
        )
        assert seen <= {201, 503}
        wait_until(lambda: http.get("/health").status_code == 503, "the relay to be unhealthy")
        assert relay.events("internal_error") == []
