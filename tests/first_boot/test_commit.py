"""The moment a server gets its identity, and what is left of the wizard afterwards."""

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
from sigil.serving.process.worker import WorkerLifecycle
from sigil.serving.startup_error import StartupError
from tests.first_boot.newborn import NOBODY, WORDS, Newborn, identity_of, refused
from tests.flows.people import ACTION
from tests.support.live import wait_until

BROWSER = {"Accept": "text/html"}


class Initialized:
    """A server that was set up, its words, and the session of who did it."""

    def __init__(self, server: Newborn) -> None:
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

    def ask(self, key: str, device: Device) -> dict[str, Any]:
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
    with Newborn(SIGIL_DEVICE_RATE="off", SIGIL_SERVER_NAME="<b>Söhne</b> & Co") as server:
        yield Initialized(server)


def test_the_commit_answers_with_the_identity_and_a_session(initialized: Initialized) -> None:
    assert initialized.made["identity"]["server_id"] == initialized.identity.server_id
    assert initialized.made["api_key_prefix"] == "sgk_test_"
    assert initialized.made["tls_cert_path"] == str(initialized.server.certificate)
    assert len(initialized.session) == 43


async def test_over_plain_http_there_is_no_certificate_to_tell_of(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, tls_cert=tmp_path / "cert.pem", http_only=True)
    app: Any = build_wizard(
        InitSnapshot(config, None, None, loopback_only=True), FileVault(tmp_path), WorkerLifecycle(0, 1)
    )
    async with falcon.testing.ASGIConductor(app) as conductor:
        answer = await conductor.simulate_post("/init/commit", json={"words": WORDS}, host="localhost")
    assert answer.status_code == 201
    assert "tls_cert_path" not in answer.json


def test_every_worker_is_operational_with_that_identity(initialized: Initialized) -> None:
    told = [initialized.server.get("/info").json() for _ in range(24)]
    assert {info["mode"] for info in told} == {"operational"}
    assert {info["server_id"] for info in told} == {initialized.identity.server_id}
    assert initialized.server.get("/health").json()["status"] == "healthy"


def test_keys_made_with_the_session_work_on_every_worker(initialized: Initialized) -> None:
    keys = [initialized.key() for _ in range(6)]
    assert len(set(keys)) == 6
    for key in keys:
        assert key.startswith("sgk_test_")
        assert initialized.server.get(NOBODY, Authorization=f"Bearer {key}").status_code == 404


def test_the_session_opens_nothing_else(initialized: Initialized) -> None:
    refused(initialized.server.get(NOBODY, Authorization=f"Bearer {initialized.session}"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("path", ["/init", "/init/", "/init/anything"])
def test_nothing_of_the_wizard_is_left_for_programs_and_a_friendly_page_for_people(
    initialized: Initialized, path: str
) -> None:
    refused(initialized.server.get(path), 404, "NOT_FOUND")
    page = initialized.server.get(path, **BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert page.text.startswith("<!doctype html>")


def test_its_state_is_no_longer_told(initialized: Initialized) -> None:
    refused(initialized.server.get("/init/state"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/init/words", "/init/check"])
def test_words_are_neither_made_nor_checked_any_more(initialized: Initialized, path: str) -> None:
    refused(initialized.server.post(path, {"words": initialized.words}, token=initialized.session), 404, "NOT_FOUND")


def test_whoever_comes_late_is_told_that_the_server_is_set_up(initialized: Initialized) -> None:
    refused(initialized.server.post("/init/commit", {"words": generate_mnemonic()}), 409, "ALREADY_INITIALIZED")


def test_another_site_makes_no_keys_with_the_session(initialized: Initialized) -> None:
    answer = initialized.server.post("/init/api-keys", token=initialized.session, Origin="https://evil.example")
    refused(answer, 403, "ORIGIN_REFUSED")


def test_the_page_for_people_shows_the_identity_and_escapes_the_name(initialized: Initialized) -> None:
    page = initialized.server.get("/", **BROWSER)
    assert page.status_code == 200
    assert "<b>" not in page.text
    assert "&lt;b&gt;Söhne&lt;/b&gt; &amp; Co" in page.text
    assert initialized.identity.server_id in page.text
    assert all(emoji in page.text for emoji in initialized.identity.pictogram)
    assert all(name in page.text for name in initialized.identity.pictogram_speakable.split())


def test_killed_workers_come_back_operational_and_the_session_lives_on(initialized: Initialized) -> None:
    server = initialized.server
    before = server.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - set(before)) == 2, "two new workers")
    assert server.modes() == {"operational"}
    refused(server.get("/init"), 404, "NOT_FOUND")
    assert server.get(NOBODY, Authorization=f"Bearer {initialized.key()}").status_code == 404


def test_a_server_that_was_killed_starts_again_with_identity_session_and_challenges(initialized: Initialized) -> None:
    server, device = initialized.server, Device.generate()
    key = initialized.key()
    created = initialized.ask(key, device)
    server.kill()
    server.start()
    started = [line for line in server.log() if line["event"] == "sigil_starting"][-1]
    assert (started["mode"], started["sessions"]) == ("operational", "adopted")
    assert server.get("/info").json()["server_id"] == initialized.identity.server_id
    assert initialized.state_of(key, created) == "pending"
    assert initialized.key() != key


def test_a_reload_keeps_it_operational(initialized: Initialized) -> None:
    server = initialized.server
    finished = sum(line["event"] == "reload_finished" for line in server.log())
    os.kill(server.pid, signal.SIGHUP)
    wait_until(
        lambda: sum(line["event"] == "reload_finished" for line in server.log()) > finished, "the reload to finish"
    )
    assert server.modes() == {"operational"}
    assert server.get(NOBODY, Authorization=f"Bearer {initialized.key()}").status_code == 404


def test_words_given_at_a_restart_take_over_and_other_words_wipe_what_was_committed(tmp_path: Path) -> None:
    with Newborn(workers=1, SIGIL_DEVICE_RATE="off") as server:
        initialized = Initialized(server)
        key = initialized.key()
        created = initialized.ask(key, Device.generate())
        server.stop()
        server.environ["SIGIL_MNEMONIC_PATH"] = words_file(tmp_path / "same", initialized.words)
        server.start()
        assert initialized.state_of(key, created) == "pending"
        assert not (server.state / "identity").exists(), "its secrets need no second place"
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

        # From then on the other words are the ones that a container which is made anew asks for.
        [renewed] = [line for line in server.log() if line["event"] == "marker_renewed"]
        assert (renewed["former"], renewed["server_id"]) == (
            initialized.identity.server_id,
            identity_of(other).server_id,
        )
        server.lose_memory()
        del server.environ["SIGIL_MNEMONIC_PATH"]
        server.start()
        assert server.get("/init/state").json()["restore_only"]["server_id"] == identity_of(other).server_id
        refused(server.post("/init/check", {"words": initialized.words}), 409, "IDENTITY_MISMATCH")
        assert server.commit(other)["identity"]["server_id"] == identity_of(other).server_id


def test_a_marker_follows_words_of_the_settings_and_is_not_made_for_them(tmp_path: Path) -> None:
    marker, first, second = Marker(tmp_path), "a1" * 32, "b2" * 32
    assert marker.replace(first) is None
    assert marker.read() is None
    marker.write_if_absent(first)
    assert marker.replace(first) is None
    assert marker.replace(second) == first
    assert marker.read() == second
    assert [path.name for path in tmp_path.iterdir()] == ["server_id"]
    marker.path.write_text("of somebody else")
    with pytest.raises(MarkerUnusable, match="contains no server_id"):
        marker.replace(first)
    assert marker.path.read_text() == "of somebody else"


def test_a_server_that_had_an_identity_offers_no_wizard_because_a_file_is_gone(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, tls_cert=tmp_path / "cert.pem")
    with pytest.raises(StartupError, match="identity is missing"):
        create_initialized_app(InitSnapshot(config, None, None, loopback_only=True), WorkerLifecycle(0, 1))


def words_file(path: Path, words: str) -> str:
    path.touch(0o600)
    path.write_text(words)
    return str(path)


@pytest.fixture(scope="module")
def forgetful() -> Iterator[tuple[Newborn, str, ServerIdentity]]:
    """A server that was set up, and whose container was made anew since."""
    with Newborn(workers=1) as server:
        words = generate_mnemonic()
        server.commit(words)
        server.lose_memory()
        server.start()
        yield server, words, identity_of(words)


def test_a_new_container_says_which_identity_it_expects(forgetful: tuple[Newborn, str, ServerIdentity]) -> None:
    server, _, identity = forgetful
    assert server.get("/init/state").json()["restore_only"] == {
        "server_id": identity.server_id,
        "server_pictogram": identity.pictogram,
        "server_pictogram_speakable": identity.pictogram_speakable,
    }


@pytest.mark.parametrize("path", ["/init/check", "/init/commit"])
def test_a_new_container_takes_no_other_identity(forgetful: tuple[Newborn, str, ServerIdentity], path: str) -> None:
    server, _, identity = forgetful
    details = refused(server.post(path, {"words": generate_mnemonic()}), 409, "IDENTITY_MISMATCH")
    assert details == {"server_id": identity.server_id, "pictogram": identity.pictogram}


def test_a_new_container_takes_the_identity_that_it_had_and_after_a_reset_another(
    forgetful: tuple[Newborn, str, ServerIdentity],
) -> None:
    server, words, identity = forgetful
    assert server.post("/init/check", {"words": words}).json()["identity"]["server_id"] == identity.server_id
    server.commit(words)
    assert server.get("/info").json()["server_id"] == identity.server_id
    server.lose_memory()
    server.environ["SIGIL_INIT_RESET"] = "true"
    server.start()
    assert server.get("/init/state").json()["restore_only"] is None
    other = generate_mnemonic()
    server.commit(other)
    server.stop()
    # It stays set, and costs the new identity nothing.
    server.start()
    assert server.get("/info").json()["server_id"] == identity_of(other).server_id
    assert "init_reset_ignored" in {line["event"] for line in server.log()}
