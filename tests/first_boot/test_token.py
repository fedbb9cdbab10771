"""Who may set up a server that a network reaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from sigil.app.init_mode import expected_server_id, requires_token
from sigil.app.wizard import InitSnapshot, build_wizard
from sigil.config.settings import Config, load
from sigil.first_boot.vault import FileVault
from sigil.protocol.identity import generate_mnemonic
from sigil.serving.process.worker import WorkerLifecycle
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from tests.conformance.server import run
from tests.first_boot.newborn import WORDS, Newborn, refused
from tests.support.services import Clock

OWN_TOKEN = "a-token-of-the-operator's-own"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Newborn]:
    with Newborn(workers=1, SIGIL_HOST="0.0.0.0") as server:
        yield server


def test_the_log_tells_the_address_with_the_token_as_its_fragment(guarded: Newborn) -> None:
    address, _, token = guarded.address().partition("#token=")
    assert address == f"https://localhost:{guarded.port}/init"
    assert len(token) >= 32
    assert guarded.log_path.read_text().count(token) == 1


def test_the_page_is_told_that_one_is_asked_for(guarded: Newborn) -> None:
    assert guarded.get("/init/state").json()["token_required"] is True
    assert guarded.get("/init").status_code == 200


@pytest.mark.parametrize("path", ["/init/words", "/init/check", "/init/commit"])
def test_nothing_is_done_without_it(guarded: Newborn, path: str) -> None:
    refused(guarded.post(path, {"words": WORDS}), 401, "UNAUTHORIZED")


def test_with_it_words_are_made_under_any_name_of_the_server(guarded: Newborn) -> None:
    named = {"Host": "sigil.example.com", "Origin": "https://sigil.example.com"}
    assert guarded.post("/init/words", token=guarded.token(), **named).status_code == 200
    refused(guarded.post("/init/words", token=guarded.token(), Origin="https://evil.example"), 403, "ORIGIN_REFUSED")


class Guessing:
    """Someone who tries tokens on one worker of a server that asks for OWN_TOKEN, with a clock that is moved."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = Config(state_dir=folder, tls_cert=folder / "cert.pem", **settings)
        snapshot = InitSnapshot(config, Secret(OWN_TOKEN), None, loopback_only=False)
        self.clock = Clock()
        self._app = build_wizard(snapshot, FileVault(folder), WorkerLifecycle(0, config.workers), self.clock)

    async def _served(self, scope: Any, receive: Any, send: Any) -> None:
        if "client" in scope:
            # ASGI says a pair; Falcon's test client sends an iterator.
            scope["client"] = tuple(scope["client"])
        await self._app(scope, receive, send)

    async def tries(self, token: str, address: str = "192.0.2.9") -> falcon.testing.Result:
        async with falcon.testing.ASGIConductor(self._served) as conductor:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Host": "localhost"}
            return await conductor.simulate_post("/init/words", body="{}", headers=headers, remote_addr=address)


@pytest.mark.parametrize("workers", [1, 16, 256])
@pytest.mark.parametrize("rate", [0, 600])
async def test_after_ten_guesses_nobody_is_heard_for_a_while_not_even_with_the_right_one(
    tmp_path: Path, workers: int, rate: int
) -> None:
    """However many workers share the ten a minute, and whatever SIGIL_RATE_LIMIT says."""
    guessing = Guessing(tmp_path, workers=workers, rate_limit=rate)
    for number in range(10):
        assert (await guessing.tries(f"guess-{number}")).status_code == 401
    limited = await guessing.tries(OWN_TOKEN)
    assert (limited.status_code, limited.json["error"]["code"]) == (429, "RATE_LIMITED")
    assert (await guessing.tries(OWN_TOKEN, "192.0.2.10")).status_code == 200, "another address is heard"
    guessing.clock.now += int(limited.headers["retry-after"])
    assert (await guessing.tries(OWN_TOKEN)).status_code == 200


async def test_who_goes_on_guessing_is_heard_again_a_minute_after_the_last_one(tmp_path: Path) -> None:
    guessing = Guessing(tmp_path, workers=16)
    for number in range(200):
        guessing.clock.now += 1
        await guessing.tries(f"guess-{number}")
    guessing.clock.now += 60 + 16 * 0.6
    assert (await guessing.tries(OWN_TOKEN)).status_code == 200


def test_it_is_no_api_key_and_opens_nothing_after_the_commit(guarded: Newborn) -> None:
    token = guarded.token()
    session = guarded.commit(generate_mnemonic(), token)["session"]
    refused(guarded.post("/init/api-keys", token=token), 401, "UNAUTHORIZED")
    assert guarded.post("/init/api-keys", token=session).status_code == 201


def test_one_of_the_operators_own_is_told_to_nobody() -> None:
    with Newborn(workers=1, SIGIL_INIT_TOKEN=OWN_TOKEN, LOG_LEVEL="error") as server:
        assert server.address() == f"https://localhost:{server.port}/init", "told whatever the level"
        assert OWN_TOKEN not in server.log_path.read_text()
        refused(server.post("/init/words"), 401, "UNAUTHORIZED")
        assert server.post("/init/words", token=OWN_TOKEN).status_code == 200


def test_without_one_on_a_network_the_log_warns_and_names_are_held_to_addresses() -> None:
    with Newborn(workers=1, SIGIL_HOST="0.0.0.0", SIGIL_INIT_TOKEN="off") as server:
        assert server.address() == f"https://localhost:{server.port}/init"
        assert "init_without_token" in {line["event"] for line in server.log()}
        assert server.post("/init/words").status_code == 200
        assert server.post("/init/words", Host="192.0.2.7").status_code == 200
        refused(server.post("/init/words", Host="evil.example"), 403, "ORIGIN_REFUSED")


def test_without_one_behind_a_proxy_on_the_same_host_the_log_warns() -> None:
    """A proxy may forward with a Host of loopback and without a header: then whoever reaches it is taken for us."""
    with Newborn(workers=1, SIGIL_PUBLIC_URL="https://sigil.example.com", SIGIL_INIT_TOKEN="off") as server:
        assert "init_without_token" in {line["event"] for line in server.log()}
        assert server.post("/init/words", Origin="https://sigil.example.com").status_code == 200


def test_behind_a_proxy_on_the_same_host_it_is_asked_for() -> None:
    with Newborn(workers=1, SIGIL_PUBLIC_URL="https://Sigil.Example.com:443") as server:
        assert server.address().startswith("https://sigil.example.com/init#token=")
        state = server.get("/init/state", Host="sigil.example.com").json()
        assert (state["token_required"], state["base_url"]) == (True, "https://sigil.example.com")
        answer = server.post("/init/words", token=server.token(), Origin="https://sigil.example.com")
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, "no token"),
        ({"SIGIL_HOST": "::1"}, "no token"),
        ({"SIGIL_HOST": "localhost"}, "no token"),
        ({"SIGIL_HOST": "0.0.0.0"}, "the token of the log"),
        ({"SIGIL_HOST": "::"}, "the token of the log"),
        ({"SIGIL_HOST": "a-name-that-is-not-known.invalid"}, "the token of the log"),
        ({"SIGIL_HTTP_PORT": "8080"}, "the token of the log"),
        ({"TRUSTED_PROXY_IP": "127.0.0.1"}, "the token of the log"),
        ({"SIGIL_INIT_TOKEN": OWN_TOKEN}, "SIGIL_INIT_TOKEN"),
        ({"SIGIL_INIT_TOKEN": "off", "SIGIL_HOST": "0.0.0.0"}, "no token"),
    ],
    ids=str,
)
def test_what_is_asked_for_follows_from_who_can_reach_it(settings: dict[str, str], asked: str) -> None:
    config = load({"SIGIL_MODE": "init", "SIGIL_HOST": "127.0.0.1", **settings})
    assert requires_token(config) == (asked != "no token")
    assert (config.init_token is not None) == (asked == "SIGIL_INIT_TOKEN")


def test_check_config_tells_of_the_wizard() -> None:
    server = Newborn(SIGIL_HOST="0.0.0.0")
    try:
        told = run("check-config", env=server.environ)
        assert told.returncode == 0, told.stderr
        assert "init" in told.stdout
        assert f"https://localhost:{server.port}/init" in told.stdout
        assert "token      in the log" in told.stdout
    finally:
        server.__exit__(None, None, None)


def test_a_marker_says_what_is_restored_and_a_damaged_one_how_to_be_rid_of_it(tmp_path: Path) -> None:
    settings = {"SIGIL_MODE": "init", "TLS_CERT_PATH": str(tmp_path / "cert.pem")}
    (tmp_path / "server_id").write_text("a1" * 32)
    assert expected_server_id(load(settings)) == "a1" * 32
    assert expected_server_id(load({**settings, "SIGIL_INIT_RESET": "true"})) is None
    (tmp_path / "server_id").write_text("nonsense")
    with pytest.raises(StartupError, match="SIGIL_INIT_RESET=true"):
        expected_server_id(load(settings))


def refusal_of(**settings: str) -> str:
    server = Newborn(**settings)
    try:
        finished = run("check-config", env=server.environ)
        served = run("serve", env=server.environ)
        assert finished.returncode == served.returncode == 1
        assert finished.stderr == served.stderr
        assert len(finished.stderr.splitlines()) == 1
        return finished.stderr
    finally:
        server.__exit__(None, None, None)


def test_words_never_cross_a_network_in_the_clear() -> None:
    told = refusal_of(SIGIL_HTTP_PORT="8080", SIGIL_HOST="0.0.0.0")
    assert "SIGIL_HTTP_PORT" in told
    assert "SIGIL_HOST=127.0.0.1" in told


@pytest.mark.parametrize("token", ["short", "a token with blanks in it"])
def test_a_token_that_cannot_do_its_work_stops_the_start(token: str) -> None:
    told = refusal_of(SIGIL_INIT_TOKEN=token)
    assert "SIGIL_INIT_TOKEN" in told
    assert token not in told
