"""The commit, and what remains of the wizard after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from sigil.app.wizard import InitSnapshot, build_wizard, create_initialized_app
from sigil.config.settings import Config
from sigil.device import Device
from sigil.first_boot.marker import Marker, MarkerUnusable
from sigil.first_boot.vault import FileVault
from sigil.protocol.identity import ServerIdentity, generate_mnemonic
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.serving.settings import Secret
from sigil.serving.startup_error import StartupError
from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE, WORDS, InitModeServer, identity_of, refused
from tests.flows.backend import ACTION
from tests.support.live import wait_until

BROWSER = {"Accept": "text/html"}


class Initialized:
    """A server that was set up, its words, and the session of the commit."""

    def __init__(self, server: InitModeServer) -> None:
        self.server = server
        self.words = generate_mnemonic()
        self.identity = identity_of(self.words)
        self.made = server.commit(self.words)
        self.session: str = self.made["session"]

    def key(self) -> str:
        answer = self.server.post("/init/api-keys", token=self.session)
        assert answer.status_code == 201, answer.text
        key: str = answer.json()["api_key"]
        return key

    def create_challenge(self, key: str, device: Device) -> dict[str, Any]:
        answer = self.server.post("/challenge", {"device_public_key": device.wire_key, "action": ACTION}, token=key)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def state_of(self, key: str, created: dict[str, Any]) -> str:
        path = f"/v1/auth/challenge/{created['challenge_id']}/status"
        answer = self.server.get(path, Authorization=f"Bearer {key}")
        assert answer.status_code == 200, answer.text
        status: str = answer.json()["status"]
        return status


@pytest.fixture(scope="module")
def initialized() -> Iterator[Initialized]:
    with InitModeServer(SIGIL_DEVICE_RATE="off", SIGIL_SERVER_NAME="<b>Söhne</b> & Co") as server:
        yield Initialized(server)


def test_the_commit_answers_with_the_identity_and_a_session(initialized: Initialized) -> None:
    assert initialized.made["identity"]["server_id"] == initialized.identity.server_id
    assert initialized.made["api_key_prefix"] == "sgk_test_"
    assert initialized.made["tls_cert_path"] == str(initialized.server.certificate)
    assert len(initialized.session) == 43


async def test_over_plain_http_the_answer_has_no_certificate_path(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, tls_cert=tmp_path / "cert.pem", http_only=True)
    app: Any = build_wizard(
        InitSnapshot(config, Secret("token"), None, loopback_only=True), FileVault(tmp_path), WorkerLifecycle(0, 1)
    )
    async with falcon.testing.ASGIConductor(app) as conductor:
        headers = {"Authorization": "Bearer token"}
        answer = await conductor.simulate_post("/init/commit", json={"words": WORDS}, headers=headers, host="localhost")
    assert answer.status_code == 201
    assert "tls_cert_path" not in answer.json


def test_every_worker_is_operational_with_that_identity(initialized: Initialized) -> None:
    infos = [initialized.server.get("/info").json() for _ in range(24)]
    assert {info["mode"] for info in infos} == {"operational"}
    assert {info["server_id"] for info in infos} == {initialized.identity.server_id}
    assert initialized.server.get("/health").json()["status"] == "healthy"


def test_keys_made_with_the_session_work_on_every_worker(initialized: Initialized) -> None:
    keys = [initialized.key() for _ in range(6)]
    assert len(set(keys)) == 6
    for key in keys:
        assert key.startswith("sgk_test_")
        assert initialized.server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {key}").status_code == 404


def test_the_session_authorises_nothing_else(initialized: Initialized) -> None:
    refused(
        initialized.server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {initialized.session}"), 401, "UNAUTHORIZED"
    )


@pytest.mark.parametrize("path", ["/init", "/init/", "/init/anything"])
def test_after_the_commit_the_wizard_is_404_for_programs_and_a_page_for_browsers(
    initialized: Initialized, path: str
) -> None:
    refused(initialized.server.get(path), 404, "NOT_FOUND")
    page = initialized.server.get(path, **BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert page.text.startswith("<!doctype html>")


def test_after_the_commit_the_state_is_404(initialized: Initialized) -> None:
    refused(initialized.server.get("/init/state"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/init/words", "/init/check"])
def test_after_the_commit_words_are_neither_generated_nor_checked(initialized: Initialized, path: str) -> None:
    refused(initialized.server.post(path, {"words": initialized.words}, token=initialized.session), 404, "NOT_FOUND")


def test_a_late_commit_is_already_initialized(initialized: Initialized) -> None:
    refused(initialized.server.post("/init/commit", {"words": generate_mnemonic()}), 409, "ALREADY_INITIALIZED")


def test_another_site_cannot_issue_keys_with_the_session(initialized: Initialized) -> None:
    answer = initialized.server.post("/init/api-keys", token=initialized.session, Origin="https://evil.example")
    refused(answer, 403, "ORIGIN_REFUSED")


def test_the_home_page_shows_the_identity_and_escapes_the_name(initialized: Initialized) -> None:
    page = initialized.server.get("/", **BROWSER)
    assert page.status_code == 200
    assert "<b>" not in page.text
    assert "&lt;b&gt;Söhne&lt;/b&gt; &amp; Co" in page.text
    assert initialized.identity.server_id in page.text
    for name in initialized.identity.pictogram_speakable.split():
        assert f'<img src="/assets/pictograms/{name}.svg" alt="" width="52" height="52">' in page.text
    assert all(name in page.text for name in initialized.identity.pictogram_speakable.split())


def test_killed_workers_restart_operational_and_the_session_stays_valid(initialized: Initialized) -> None:
    server = initialized.server
    before = server.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - set(before)) == 2, "two new workers")
    assert server.modes() == {"operational"}
    refused(server.get("/init"), 404, "NOT_FOUND")
    assert server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {initialized.key()}").status_code == 404


def test_a_killed_server_restarts_with_identity_session_and_challenges(initialized: Initialized) -> None:
    server, device = initialized.server, Device.generate()
    key = initialized.key()
    created = initialized.create_challenge(key, device)
    server.kill()
    server.start()
    started = [line for line in server.log() if line["event"] == "sigil_starting"][-1]
    assert (started["mode"], started["sessions"]) == ("operational", "adopted")
    assert server.get("/info").json()["server_id"] == initialized.identity.server_id
    assert initialized.state_of(key, created) == "pending"
    assert initialized.key() != key


def test_a_reload_keeps_the_server_operational(initialized: Initialized) -> None:
    server = initialized.server
    finished = sum(line["event"] == "reload_finished" for line in server.log())
    os.kill(server.pid, signal.SIGHUP)
    wait_until(
        lambda: sum(line["event"] == "reload_finished" for line in server.log()) > finished, "the reload to finish"
    )
    assert server.modes() == {"operational"}
    assert server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {initialized.key()}").status_code == 404


def test_a_mnemonic_in_the_settings_replaces_the_commitment_and_another_one_the_identity(tmp_path: Path) -> None:
    with InitModeServer(workers=1, SIGIL_DEVICE_RATE="off") as server:
        initialized = Initialized(server)
        key = initialized.key()
        created = initialized.create_challenge(key, Device.generate())
        server.stop()
        server.environ["SIGIL_MNEMONIC_PATH"] = words_file(tmp_path / "same", initialized.words)
        server.start()
        assert initialized.state_of(key, created) == "pending"
        assert not (server.state / "identity").exists(), "its secrets are in the settings now"
        refused(server.post("/init/api-keys", token=initialized.session), 404, "NOT_FOUND")
        server.stop()
        del server.environ["SIGIL_MNEMONIC_PATH"]
        server.start()
        assert server.modes(4) == {"init"}
        server.commit(initialized.words)
        server.stop()
        other = generate_mnemonic()
        server.environ["SIGIL_MNEMONIC_PATH"] = words_file(tmp_path / "other", other)
        server.start()
        assert server.get("/info").json()["server_id"] == identity_of(other).server_id
        assert not (server.state / "identity").exists()

        # From then on a recreated container expects the identity of the other words.
        [renewed] = [line for line in server.log() if line["event"] == "marker_renewed"]
        assert (renewed["former"], renewed["server_id"]) == (
            initialized.identity.server_id,
            identity_of(other).server_id,
        )
        server.recreate_container()
        del server.environ["SIGIL_MNEMONIC_PATH"]
        server.start()
        assert server.get("/init/state").json()["restore_only"]["server_id"] == identity_of(other).server_id
        refused(server.post("/init/check", {"words": initialized.words}), 409, "IDENTITY_MISMATCH")
        assert server.commit(other)["identity"]["server_id"] == identity_of(other).server_id


def test_the_settings_replace_a_marker_but_do_not_create_one(tmp_path: Path) -> None:
    marker, first, second = Marker(tmp_path), "a1" * 32, "b2" * 32
    assert marker.replace(first) is None
    assert marker.read() is None
    marker.write_if_absent(first)
    assert marker.replace(first) is None
    assert marker.replace(second) == first
    assert marker.read() == second
    assert [path.name for path in tmp_path.iterdir()] == ["server_id"]
    marker.path.write_text("no server_id")
    with pytest.raises(MarkerUnusable, match="contains no server_id"):
        marker.replace(first)
    assert marker.path.read_text() == "no server_id"


def test_a_server_whose_commitment_is_missing_does_not_offer_the_wizard(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, tls_cert=tmp_path / "cert.pem")
    with pytest.raises(StartupError, match="identity is missing"):
        create_initialized_app(InitSnapshot(config, None, None, loopback_only=True), WorkerLifecycle(0, 1))


def words_file(path: Path, words: str) -> str:
    path.touch(0o600)
    path.write_text(words)
    return str(path)


@pytest.fixture(scope="module")
def recreated_server() -> Iterator[tuple[InitModeServer, str, ServerIdentity]]:
    """A server that was set up and whose container was then recreated."""
    with InitModeServer(workers=1) as server:
        words = generate_mnemonic()
        server.commit(words)
        server.recreate_container()
        server.start()
        yield server, words, identity_of(words)


def test_a_recreated_container_shows_the_identity_that_it_expects(
    recreated_server: tuple[InitModeServer, str, ServerIdentity],
) -> None:
    server, _, identity = recreated_server
    assert server.get("/init/state").json()["restore_only"] == {
        "server_id": identity.server_id,
        "server_pictogram": identity.pictogram,
        "server_pictogram_speakable": identity.pictogram_speakable,
    }


@pytest.mark.parametrize("path", ["/init/check", "/init/commit"])
def test_a_recreated_container_rejects_another_identity(
    recreated_server: tuple[InitModeServer, str, ServerIdentity], path: str
) -> None:
    server, _, identity = recreated_server
    details = refused(server.post(path, {"words": generate_mnemonic()}), 409, "IDENTITY_MISMATCH")
    assert details == {
        "server_id": identity.server_id,
        "pictogram": identity.pictogram,
        "pictogram_speakable": identity.pictogram_speakable,
    }


def test_a_recreated_container_accepts_its_former_identity_and_after_a_reset_another(
    recreated_server: tuple[InitModeServer, str, ServerIdentity],
) -> None:
    server, words, identity = recreated_server
    assert server.post("/init/check", {"words": words}).json()["identity"]["server_id"] == identity.server_id
    server.commit(words)
    assert server.get("/info").json()["server_id"] == identity.server_id
    server.recreate_container()
    server.environ["SIGIL_INIT_RESET"] = "true"
    server.start()
    assert server.get("/init/state").json()["restore_only"] is None
    other = generate_mnemonic()
    server.commit(other)
    server.stop()
    # The setting may stay: it does not affect the new identity.
    server.start()
    assert server.get("/info").json()["server_id"] == identity_of(other).server_id
    assert "init_reset_ignored" in {line["event"] for line in server.log()}
