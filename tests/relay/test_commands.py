"""`sigil-relay`: an operator's commands, on the database of a running relay."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sigil.device import Device
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import register
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.ports import free_port

OLD, NEW = "the-old-key-of-more-than-32-characters-x", "the-new-key-of-more-than-32-characters-y"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay(TOKEN_ENCRYPTION_KEY=OLD, METRICS_TOKEN="a-token-of-metrics") as relay:
        yield relay


@pytest.fixture
def command(relay: LiveRelay) -> Command:
    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env={**relay.environ, **changed},
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    return run


def registered(server: Server) -> bool:
    """A worker learns within a second that another test has removed the server that was trusted on first use."""
    time.sleep(0.2)
    return server.register().status_code == 200


def test_servers_are_listed_and_removed(relay: LiveRelay, command: Command) -> None:
    with relay.client() as client:
        server = Server(client)
        wait_until(lambda: registered(server), "the relay to know that no other server is left")
    listed = command("servers", "list").stdout
    assert server.identity.server_id in listed
    assert "key known  Test" in listed
    removed = command("servers", "remove", server.identity.server_id)
    empty = command("servers", "list")
    assert (removed.returncode, empty.returncode, empty.stdout, empty.stderr) == (0, 0, "", "no servers\n")
    again = command("servers", "remove", server.identity.server_id)
    assert (again.returncode, again.stderr) == (1, "sigil-relay: no such server\n")


def test_a_server_that_the_settings_list_is_not_reported_as_removed(relay: LiveRelay, command: Command) -> None:
    """It would be trusted again with its next request."""
    with relay.client() as client:
        server = Server(client)
        wait_until(lambda: registered(server), "the relay to know that no other server is left")
    refused = command("servers", "remove", server.identity.server_id, RELAY_TRUSTED_SERVERS=server.identity.server_id)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "RELAY_TRUSTED_SERVERS lists this server: remove it there" in refused.stderr
    assert command("servers", "remove", server.identity.server_id).returncode == 0


def test_devices_are_counted_shown_and_removed(relay: LiveRelay, command: Command) -> None:
    device = Device.generate()
    with relay.client() as client:
        register(device, client, relay.url, "fcm", "a-very-secret-push-token")
    assert command("devices", "count").stdout == "fcm          1\n"
    shown = command("devices", "show", device.fingerprint)
    assert "platform    fcm" in shown.stdout
    assert "secret" not in shown.stdout
    assert command("devices", "prune").stdout == "0 evicted or forgotten\n"
    assert command("devices", "remove", device.fingerprint).stdout == "removed\n"
    empty = command("devices", "count")
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "no devices\n")
    assert command("devices", "show", device.fingerprint).returncode == 1
    assert "hex characters only" in command("devices", "show", "short").stderr


def test_the_pushes_of_each_server_to_a_device_are_shown(relay: LiveRelay, command: Command) -> None:
    device = Device.generate()
    with relay.client() as client:
        register(device, client, relay.url, "fcm", "a-very-secret-push-token")
        server = Server(client)
        command("servers", "trust", server.identity.server_id)
        wait_until(lambda: registered(server), "a trusted server")
        server.push(wanted(device, "first:challenge"))
    shown = command("devices", "show", device.fingerprint[:6].upper() + "…")
    assert shown.returncode == 0, shown.stderr
    assert f"fingerprint {device.fingerprint}\n" in shown.stdout
    assert f"pushes of   {server.identity.server_id}  Test\n" in shown.stdout
    assert "  first:challenge  fcm  failed (provider_off) at 20" in shown.stdout
    assert ", 1 attempt\n" in shown.stdout
    assert "secret" not in shown.stdout
    other = Device.generate()
    missing = command("devices", "show", other.fingerprint[:8])
    assert (missing.returncode, "give all 64 characters" in missing.stderr) == (1, True)
    assert command("devices", "remove", device.fingerprint).stdout == "removed\n"
    shown = command("devices", "show", device.fingerprint)
    # The queue has the push until it expires.
    assert "registered  no\n" in shown.stdout
    assert "first:challenge" in shown.stdout


def test_tokens_are_resealed_with_a_new_key_and_then_the_old_one_can_be_removed(relay: LiveRelay) -> None:
    device = Device.generate()
    with relay.client() as client:
        register(device, client, relay.url, "apns", "a-token-to-rotate")
    for keys in (f"{NEW},{OLD}", NEW):
        relay.stop()
        relay.environ["TOKEN_ENCRYPTION_KEY"] = keys
        relay.start()
        if keys != NEW:
            wait_until(lambda: relay.events("tokens_resealed"), "the pass over all tokens")
    assert not relay.events("tokens_cannot_be_opened")


def test_health_and_migrate(relay: LiveRelay, command: Command) -> None:
    assert command("health").returncode == 0
    assert command("health", RELAY_PORT="1").returncode == 1
    assert command("migrate").stdout == "the database schema is up to date\n"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"RELAY_PORT": "many"}, "RELAY_PORT: must be a whole number from 1 to 65535"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL: must begin with postgresql://"),
        ({"DATABASE_URL": "postgresql://x", "TOKEN_ENCRYPTION_KEY": ""}, "TOKEN_ENCRYPTION_KEY: required"),
        ({"TOKEN_ENCRYPTION_KEY": "short"}, "TOKEN_ENCRYPTION_KEY: must be one key, or new,old"),
        ({"RELAY_PUBLIC_URL": "https://relay.example.com/path"}, "RELAY_PUBLIC_URL: must be a URL without a path"),
        ({"RELAY_TRUSTED_SERVERS": "abc"}, "RELAY_TRUSTED_SERVERS: must be a list of server_ids"),
        ({"APNS_KEY_PATH": "/key.p8"}, "APNS_TOPIC: required for APNs"),
    ],
)
def test_a_wrong_setting_is_one_line(command: Command, changed: dict[str, str], expected: str) -> None:
    for name in ("check-config", "serve"):
        ended = command(name, **changed)
        assert ended.returncode == 1
        assert expected in ended.stderr
        assert "Traceback" not in ended.stderr


def test_valid_settings_are_shown_without_secrets(command: Command) -> None:
    shown = command("check-config", RELAY_WORKERS="4", RELAY_WROKERS="1")
    assert shown.returncode == 0
    assert "database   SQLite" in shown.stdout
    assert "on SQLite the relay runs one worker" in shown.stderr
    assert "RELAY_WROKERS is not a setting; did you mean RELAY_WORKERS?" in shown.stderr
    assert OLD not in shown.stdout + shown.stderr


def test_a_second_relay_on_the_same_port_is_rejected_in_one_line(command: Command, tmp_path: Path) -> None:
    second = command("serve", RELAY_DATA_DIR=str(tmp_path))
    assert second.returncode == 1
    assert "cannot listen on 127.0.0.1" in second.stderr
    assert "set RELAY_PORT to another port" in second.stderr


def test_guesses_of_the_metrics_token_are_rate_limited(relay: LiveRelay) -> None:
    """From an address of its own, so that the limit does not affect other tests."""
    with relay.client(transport=httpx.HTTPTransport(local_address="127.0.0.9")) as guessing:
        guesses = ({"Authorization": f"Bearer guess-{number}"} for number in range(40))
        assert 429 in [guessing.get("/metrics", headers=guess).status_code for guess in guesses]


def test_metrics_have_all_families_and_name_no_device(relay: LiveRelay) -> None:
    with relay.client() as client:
        assert client.get("/metrics").status_code == 401
        text = client.get("/metrics", headers={"Authorization": "Bearer a-token-of-metrics"}).text
    for name in ("relay_devices{", "relay_pushes_queued", "relay_http_requests_total{", "relay_build_info{"):
        assert name in text
    assert "fingerprint" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["servers", "list"],
        ["servers", "trust", "ab" * 32],
        ["servers", "remove", "ab" * 32],
        ["devices", "count"],
        ["devices", "show", "ab" * 32],
        ["devices", "remove", "ab" * 32],
        ["devices", "prune"],
    ],
)
def test_a_command_without_the_settings_of_the_relay_creates_no_database(arguments: list[str], tmp_path: Path) -> None:
    missing = tmp_path / "none"
    ended = subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env={"PATH": "/usr/bin:/bin", "RELAY_DATA_DIR": str(missing)},
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"sigil-relay: there is no database: DATABASE_URL is not set, and {missing}/relay.db does not exist; set "
        "DATABASE_URL or RELAY_DATA_DIR as for the relay, or run `sigil-relay migrate` first\n"
    )
    assert not missing.exists()


def test_a_second_relay_on_the_same_directory_is_rejected_in_one_line(relay: LiveRelay, command: Command) -> None:
    second = command("serve", RELAY_PORT=str(free_port()))
    directory = relay.environ["RELAY_DATA_DIR"]
    assert second.returncode == 1
    assert "worker_ready" not in second.stdout
    assert second.stderr == (
        f"sigil-relay: another relay runs on {directory}: stop it, set RELAY_DATA_DIR to another directory, or set "
        "DATABASE_URL for several relays on one database\n"
    )
    assert command("servers", "list").returncode == 0
    assert command("migrate").returncode == 0


def test_a_killed_relay_leaves_no_lock() -> None:
    with LiveRelay() as relay:
        relay.kill()
        relay.start()
