"""`sigil-relay doctor`, on real relays, databases and stand-ins of the providers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from relay.doctor.checklist import GROUPS
from tests.doctor.examination import Examination, examine
from tests.support.live_relay import LiveRelay, Server
from tests.support.other_user import as_user, needs_root
from tests.support.pgbouncer import PgBouncer
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.providers import Providers

pytest_plugins = ["tests.support.postgres_fixtures"]
KEY = "token-encryption-key-of-this-test-0123456789"


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture(scope="module")
def relay(providers: Providers) -> Iterator[LiveRelay]:
    with LiveRelay(TOKEN_ENCRYPTION_KEY=KEY, **providers.env) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_rules(providers: Providers) -> Iterator[None]:
    yield
    providers.reset()


async def add_a_later_migration(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO migration VALUES (99, '0099_later', 'x')")
    await connection.close()


def of(relay: LiveRelay, **changed: str) -> Examination:
    return examine(relay.environ, program="relay", **changed)


def test_a_relay_that_works_fails_nothing(relay: LiveRelay) -> None:
    found = of(relay)
    assert found.failed == set()
    assert set(found.findings) == {name for names in GROUPS.values() for name in names}
    assert KEY not in found.output


def test_the_credentials_are_tried_and_no_device_can_get_anything(relay: LiveRelay, providers: Providers) -> None:
    found = of(relay)
    assert "BadDeviceToken" in found.the("provider_apns").text
    assert "INVALID_ARGUMENT" in found.the("provider_fcm").text
    assert providers.seen() == []


def other_project(providers: Providers, folder: Path) -> str:
    account = json.loads(Path(providers.env["FCM_SERVICE_ACCOUNT"]).read_text(encoding="utf-8"))
    path = folder / "account.json"
    path.touch(0o600)
    path.write_text(json.dumps({**account, "project_id": "another-project"}))
    return str(path)


def test_credentials_that_a_provider_rejects_are_named(relay: LiveRelay, providers: Providers, tmp_path: Path) -> None:
    providers.script("token", outcome="invalid_grant")
    found = of(relay, APNS_KEY_ID="ANOTHERKEY")
    assert found.failed == {"provider_apns", "provider_fcm"}
    assert "InvalidProviderToken" in found.the("provider_apns").text
    assert "APNS_KEY_ID" in found.the("provider_apns").next_step
    assert "invalid_grant" in found.the("provider_fcm").text
    providers.reset()
    found = of(relay, APNS_TOPIC="com.example.other", FCM_SERVICE_ACCOUNT=other_project(providers, tmp_path))
    assert "TopicDisallowed" in found.the("provider_apns").text
    assert "PERMISSION_DENIED" in found.the("provider_fcm").text
    assert "FCM_SERVICE_ACCOUNT" in found.the("provider_fcm").next_step


def test_a_provider_that_cannot_be_reached_is_not_one_that_refuses(relay: LiveRelay) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    found = of(relay, APNS_URL=url, FCM_URL=url)
    assert found.failed == {"provider_apns", "provider_fcm"}
    for name in found.failed:
        assert "Connection refused" in found.the(name).text
    assert "cannot be resolved" in of(relay, APNS_URL="https://apns.invalid").the("provider_apns").text


@pytest.mark.parametrize(
    ("provider", "outcome", "text", "step"),
    [
        ("apns", "ServiceUnavailable", "answers ServiceUnavailable for now", "status page"),
        ("apns", "TooManyProviderTokenUpdates", "answers TooManyProviderTokenUpdates", "its limits"),
        ("apns", "ExpiredProviderToken", "rejects the credentials: ExpiredProviderToken", "clock"),
        ("fcm", "UNAVAILABLE", "answers UNAVAILABLE for now", "status page"),
        ("token", "internal_failure", "Google gives no access token", "FCM_TOKEN_URL"),
        ("token", "invalid_grant", "rejects the credentials: invalid_grant", "clock"),
    ],
)
def test_a_provider_that_answers_is_not_said_to_be_silent(
    relay: LiveRelay, providers: Providers, *, provider: str, outcome: str, text: str, step: str
) -> None:
    # Otherwise the stand-ins reject the invalid token before they apply the rule.
    providers.script(provider, outcome=outcome, **({} if provider == "token" else {"fault": "early"}))
    found = of(relay).the("provider_apns" if provider == "apns" else "provider_fcm")
    assert found.state == "failed"
    assert text in found.text
    assert step in found.next_step


def test_what_is_no_provider_accepts_no_credentials(relay: LiveRelay, providers: Providers) -> None:
    """The stand-in of one provider at the address of the other."""
    found = of(relay, APNS_URL=providers.fcm_url, FCM_URL=providers.apns_url)
    assert found.failed == {"provider_apns", "provider_fcm"}
    assert "APNS_URL" in found.the("provider_apns").next_step
    assert "FCM_URL" in found.the("provider_fcm").next_step


def test_a_provider_that_is_silent_is_bounded(relay: LiveRelay, providers: Providers) -> None:
    providers.script("apns", fault="silence")
    providers.script("token", fault="silence")
    found = of(relay)
    assert found.failed == {"provider_apns", "provider_fcm"}


def test_without_credentials_a_provider_is_off() -> None:
    with LiveRelay() as plain:
        assert of(plain).states("provider_apns") == {"ok"}


def test_a_stopped_relay_is_a_finding_and_its_database_is_examined_without_a_change() -> None:
    with LiveRelay() as stopped:
        data = Path(stopped.environ["RELAY_DATA_DIR"])
        stopped.stop()
        before = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in data.iterdir()}
        found = of(stopped)
        assert found.failed == {"server"}
        assert found.states("registry") == {"ok"}
        assert before == {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in data.iterdir()}


def test_a_database_that_no_relay_has_used_and_a_file_that_is_none_are_named(relay: LiveRelay, tmp_path: Path) -> None:
    assert "does not exist" in of(relay, RELAY_DATA_DIR=str(tmp_path)).the("registry").text
    assert list(tmp_path.iterdir()) == []
    other = tmp_path / "relay.db"
    other.touch(0o600)
    other.write_bytes(b"no database" * 100)
    assert "not a database" in of(relay, RELAY_DATA_DIR=str(tmp_path)).the("registry").text


def test_postgres_that_is_down_is_named_without_its_password(relay: LiveRelay) -> None:
    url = f"postgresql://relay:secret-of-the-database@127.0.0.1:{free_port()}/relay"
    found = of(relay, DATABASE_URL=url)
    assert found.the("registry").state == "failed"
    assert "secret-of-the-database" not in found.output


def test_postgres_is_examined_with_its_schema_and_its_clock(database: str) -> None:
    with LiveRelay(DATABASE_URL=database, TOKEN_ENCRYPTION_KEY=KEY, RELAY_WORKERS="1") as relay:
        found = of(relay)
        assert found.states("registry") == {"ok"}
        assert found.the("clock").text
        asyncio.run(add_a_later_migration(database))
        assert "migration 99" in of(relay).the("registry").text


def test_a_pooler_that_shares_sessions_is_named(relay: LiveRelay, postgres: PostgresServer, database: str) -> None:
    with PgBouncer(postgres, "transaction") as pooler:
        found = of(relay, DATABASE_URL=pooler.dsn(database), TOKEN_ENCRYPTION_KEY=KEY)
    assert found.the("registry").state == "failed"
    assert "pool_mode = session" in found.the("registry").text


def test_rejected_servers_are_named_by_reason() -> None:
    with LiveRelay(RELAY_TRUST_ON_FIRST_USE="false") as strict:
        assert of(strict).states("relay_trust") == {"ok"}
        with strict.client() as client:
            assert Server(client).register().status_code == 401
        found = of(strict)
        assert found.the("relay_trust").state == "open"
        assert "1 unknown_server" in found.the("relay_trust").text
        assert "sigil-relay servers trust" in found.the("relay_trust").next_step


def test_registrations_near_the_limit_are_named(relay: LiveRelay) -> None:
    assert of(relay).states("devices") == {"ok"}


def test_files_that_others_can_read_are_named(relay: LiveRelay, providers: Providers) -> None:
    account = Path(providers.env["FCM_SERVICE_ACCOUNT"])
    account.chmod(0o644)
    try:
        found = of(relay)
    finally:
        account.chmod(0o600)
    assert found.failed == {"permissions"}
    assert "FCM_SERVICE_ACCOUNT" in found.the("permissions").text


@needs_root
def test_another_user_gets_the_user_to_run_it_as(relay: LiveRelay) -> None:
    work = "from relay.doctor.checklist import run_checks; print(run_checks(os.environ).as_json())"
    text = as_user(work, relay.environ)
    assert "docker-compose exec relay sigil-relay doctor" in text


def test_invalid_settings_are_findings_and_the_rest_is_examined(relay: LiveRelay) -> None:
    found = of(relay, APNS_KEY_ID="short", RELAY_MAX_DEVICES="many")
    assert found.failed == {"settings"}
    assert "provider_apns" not in found.findings
    assert found.states("server") == {"ok"}
