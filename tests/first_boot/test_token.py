"""The setup token, and when it is required."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from sigil.app.init_mode import expected_server_id, wizard_address
from sigil.app.wizard import InitSnapshot, build_wizard
from sigil.config.settings import Config, load
from sigil.first_boot.vault import FileVault
from sigil.protocol.identity import generate_mnemonic
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from tests.conformance.server import run
from tests.first_boot.init_mode_server import WORDS, InitModeServer, refused
from tests.support.services import Clock

OWN_TOKEN = "a-token-of-the-operator's-own"


@pytest.fixture(scope="module")
def guarded() -> Iterator[InitModeServer]:
    with InitModeServer(workers=1) as server:
        yield server


def test_the_log_has_the_address_with_the_token_as_its_fragment(guarded: InitModeServer) -> None:
    address, _, token = guarded.address().partition("#token=")
    assert address == f"https://localhost:{guarded.port}/init"
    assert len(token) >= 32
    assert guarded.log_path.read_text().count(token) == 1


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "localhost"),
        ("::1", "localhost"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.2", "127.0.0.2"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
    ],
)
def test_the_address_in_the_log_is_one_that_the_listener_has(host: str, shown: str) -> None:
    assert wizard_address(Config(host=host, port=8443)) == f"https://{shown}:8443/init"


def test_the_state_reports_that_a_token_is_required(guarded: InitModeServer) -> None:
    assert guarded.get("/init/state").json()["token_required"] is True
    assert guarded.get("/init").status_code == 200


@pytest.mark.parametrize("path", ["/init/words", "/init/check", "/init/commit"])
def test_requests_without_the_token_are_unauthorized(guarded: InitModeServer, path: str) -> None:
    refused(guarded.post(path, {"words": WORDS}, token=""), 401, "UNAUTHORIZED")


def test_with_the_token_any_host_name_is_accepted(guarded: InitModeServer) -> None:
    named = {"Host": "sigil.example.com", "Origin": "https://sigil.example.com"}
    assert guarded.post("/init/words", token=guarded.token(), **named).status_code == 200
    refused(guarded.post("/init/words", token=guarded.token(), Origin="https://evil.example"), 403, "ORIGIN_REFUSED")


class Guessing:
    """A client that tries tokens on one worker of a server that requires OWN_TOKEN, with a test clock."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = Config(state_dir=folder, tls_cert=folder / "cert.pem", **settings)
        snapshot = InitSnapshot(config, Secret(OWN_TOKEN), None, loopback_only=False)
        self.clock = Clock()
        self._app = build_wizard(snapshot, FileVault(folder), WorkerLifecycle(0, config.workers), monotonic=self.clock)

    async def _served(self, scope: Any, receive: Any, send: Any) -> None:
        if "client" in scope:
            # ASGI specifies a pair; Falcon's test client sends an iterator.
            scope["client"] = tuple(scope["client"])
        await self._app(scope, receive, send)

    async def tries(self, token: str, address: str = "192.0.2.9") -> falcon.testing.Result:
        async with falcon.testing.ASGIConductor(self._served) as conductor:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            return await conductor.simulate_post(
                "/init/words", body="{}", headers=headers, host="localhost", remote_addr=address
            )


@pytest.mark.parametrize("workers", [1, 16, 256])
@pytest.mark.parametrize("rate", [0, 600])
async def test_after_ten_guesses_an_address_is_limited_even_with_the_right_token(
    tmp_path: Path, workers: int, rate: int
) -> None:
    """For any number of workers that share the ten a minute, and any SIGIL_RATE_LIMIT."""
    guessing = Guessing(tmp_path, workers=workers, rate_limit=rate)
    for number in range(10):
        assert (await guessing.tries(f"guess-{number}")).status_code == 401
    limited = await guessing.tries(OWN_TOKEN)
    assert (limited.status_code, limited.json["error"]["code"]) == (429, "RATE_LIMITED")
    assert (await guessing.tries(OWN_TOKEN, "192.0.2.10")).status_code == 200, "another address is not limited"
    guessing.clock.now += int(limited.headers["retry-after"])
    assert (await guessing.tries(OWN_TOKEN)).status_code == 200


async def test_the_limit_of_a_guessing_address_ends_a_minute_after_the_last_guess(tmp_path: Path) -> None:
    guessing = Guessing(tmp_path, workers=16)
    for number in range(200):
        guessing.clock.now += 1
        await guessing.tries(f"guess-{number}")
    guessing.clock.now += 60 + 16 * 0.6
    assert (await guessing.tries(OWN_TOKEN)).status_code == 200


def test_the_setup_token_authorises_nothing_after_the_commit(guarded: InitModeServer) -> None:
    token = guarded.token()
    session = guarded.commit(generate_mnemonic(), token)["session"]
    refused(guarded.post("/init/api-keys", token=token), 401, "UNAUTHORIZED")
    assert guarded.post("/init/api-keys", token=session).status_code == 201


def test_the_operators_own_token_is_not_logged() -> None:
    with InitModeServer(workers=1, SIGIL_INIT_TOKEN=OWN_TOKEN, LOG_LEVEL="error") as server:
        assert server.address() == f"https://localhost:{server.port}/init", "logged at every level"
        assert OWN_TOKEN not in server.log_path.read_text()
        refused(server.post("/init/words", token=""), 401, "UNAUTHORIZED")
        assert server.post("/init/words", token=OWN_TOKEN).status_code == 200


def test_behind_a_proxy_on_the_same_host_a_token_is_required() -> None:
    with InitModeServer(workers=1, SIGIL_PUBLIC_URL="https://Sigil.Example.com:443") as server:
        assert server.address().startswith("https://sigil.example.com/init#token=")
        state = server.get("/init/state", Host="sigil.example.com").json()
        assert (state["token_required"], state["base_url"]) == (True, "https://sigil.example.com")
        answer = server.post("/init/words", token=server.token(), Origin="https://sigil.example.com")
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"SIGIL_HOST": "0.0.0.0"},
        {"SIGIL_HOST": "::"},
        {"SIGIL_HOST": "a-name-that-is-not-known.invalid"},
        {"SIGIL_HTTP_PORT": "8080"},
        {"SIGIL_PUBLIC_URL": "https://sigil.example.com"},
        {"TRUSTED_PROXY_IP": "127.0.0.1"},
        {"TRUSTED_PROXY_PROVIDER": "cloudflare"},
    ],
    ids=str,
)
def test_where_others_may_reach_the_wizard_a_token_cannot_be_turned_off(settings: dict[str, str]) -> None:
    output = startup_error_of(**{"SIGIL_INIT_TOKEN": "off", "SIGIL_HOST": "127.0.0.1", **settings})
    assert "SIGIL_INIT_TOKEN=off" in output
    assert "unset SIGIL_INIT_TOKEN" in output


def test_check_config_shows_the_wizard() -> None:
    server = InitModeServer(SIGIL_HOST="0.0.0.0")
    try:
        output = run("check-config", env=server.environ)
        assert output.returncode == 0, output.stderr
        assert "init" in output.stdout
        assert f"https://localhost:{server.port}/init" in output.stdout
        assert "token      in the log" in output.stdout
    finally:
        server.__exit__(None, None, None)


def test_the_marker_gives_the_expected_identity_and_a_damaged_one_an_error_with_the_remedy(tmp_path: Path) -> None:
    settings = {"SIGIL_MODE": "init", "TLS_CERT_PATH": str(tmp_path / "cert.pem")}
    (tmp_path / "server_id").write_text("a1" * 32)
    assert expected_server_id(load(settings)) == "a1" * 32
    assert expected_server_id(load({**settings, "SIGIL_INIT_RESET": "true"})) is None
    (tmp_path / "server_id").write_text("nonsense")
    with pytest.raises(StartupError, match="SIGIL_INIT_RESET=true"):
        expected_server_id(load(settings))


def startup_error_of(**settings: str) -> str:
    server = InitModeServer(**settings)
    try:
        finished = run("check-config", env=server.environ)
        served = run("serve", env=server.environ)
        assert finished.returncode == served.returncode == 1
        # check-config lists the other reasons too.
        assert served.stderr in finished.stderr.splitlines(keepends=True)
        return served.stderr
    finally:
        server.__exit__(None, None, None)


def test_init_mode_on_a_network_requires_tls() -> None:
    output = startup_error_of(SIGIL_HTTP_PORT="8080", SIGIL_HOST="0.0.0.0")
    assert "SIGIL_HTTP_PORT" in output
    assert "SIGIL_HOST=127.0.0.1" in output


@pytest.mark.parametrize("token", ["short", "a token with blanks in it"])
def test_an_invalid_token_stops_the_start(token: str) -> None:
    output = startup_error_of(SIGIL_INIT_TOKEN=token)
    assert "SIGIL_INIT_TOKEN" in output
    assert token not in output
