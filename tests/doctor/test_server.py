"""`sigil doctor`: server, settings, workers, reload, log_output, proxy_headers, permissions, versions."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigil.doctor.checklist import GROUPS
from tests.doctor.examination import examine
from tests.doctor.peers import floods, hangs, peer, response, sends
from tests.first_boot.init_mode_server import WORDS, InitModeServer
from tests.preflight.test_checks import write_pair
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.other_user import as_user, needs_root
from tests.support.ports import free_port

EXAMINE = "from sigil.doctor.checklist import run_checks; print(run_checks(os.environ, send_test=False).as_json())"
TOKEN = "metrics-token-of-this-test-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(METRICS_TOKEN=TOKEN) as running:
        yield running


def restarts(server: LiveServer) -> int:
    return sum(line["event"] == "worker_respawned" for line in server.log())


def test_a_server_that_works_fails_nothing(server: LiveServer) -> None:
    found = examine(server.environ)
    assert found.failed == set()
    # This server accepts no kind of attestation, and has no relay.
    expected = {name for names in GROUPS.values() for name in names} - {"attestation", "relay_trust", "registry"}
    assert set(found.findings) == expected
    assert "healthy" in found.the("server").text


def test_a_stopped_server_is_a_finding_and_the_rest_is_examined() -> None:
    with LiveRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url) as server:
        files = {path: path.stat() for path in (*server.state.rglob("*"), *server.certificate.parent.rglob("*"))}
        server.stop()
        files = {path: path.stat() for path in (*server.state.rglob("*"), *server.certificate.parent.rglob("*"))}
        found = examine(server.environ)
        assert found.failed == {"server"}
        assert "Connection refused" in found.the("server").text
        assert found.states("relay_trust") == found.states("certificate") == found.states("permissions") == {"ok"}
        # It has written nothing.
        after = {path: path.stat() for path in (*server.state.rglob("*"), *server.certificate.parent.rglob("*"))}
        assert {path: (was.st_size, was.st_mtime_ns) for path, was in files.items()} == {
            path: (now.st_size, now.st_mtime_ns) for path, now in after.items()
        }


def test_another_program_on_the_port_is_no_healthy_server(server: LiveServer) -> None:
    for answer in (sends(response(200, b"<html>")), sends(b"\x00" * 100), floods, hangs):
        with peer(answer) as port:
            found = examine(server.environ, SIGIL_HTTP_PORT=str(port), SIGIL_PORT="")
        assert found.the("server").state == "failed"


def test_invalid_settings_are_findings_and_what_does_not_need_them_is_examined(server: LiveServer) -> None:
    found = examine(server.environ, RELAY_URL="relay", SIGIL_WORKERS="many", WEBHOOK_URL="ftp://x")
    texts = [finding.text for finding in found.findings["settings"] if finding.state == "failed"]
    assert [text.partition(":")[0] for text in texts] == ["SIGIL_WORKERS", "RELAY_URL", "WEBHOOK_URL"]
    assert found.states("server") == {"ok"}
    # Their defaults would be examined instead.
    assert not {"relay", "webhook"} & set(found.findings)


def test_settings_that_open_the_server_are_open(server: LiveServer) -> None:
    found = examine(server.environ, SIGIL_RATE_LIMIT="off", METRICS_TOKEN="off", SIGIL_WORKRES="2")
    texts = " ".join(finding.text for finding in found.findings["settings"] if finding.state == "open")
    assert "SIGIL_RATE_LIMIT: off" in texts
    assert "METRICS_TOKEN: off" in texts
    assert "SIGIL_WORKRES" in texts


def test_without_the_token_of_the_metrics_the_rest_is_examined(server: LiveServer) -> None:
    found = examine(server.environ, METRICS_TOKEN="another-token-of-enough-characters")
    assert found.states("server") == {"ok", "open"}
    assert "METRICS_TOKEN" in found.the("server").next_step
    assert "workers" not in found.findings


def test_the_token_goes_to_the_holder_of_the_certificate_alone(server: LiveServer, tmp_path: Path) -> None:
    """While the server is down, a program of another user may listen on its port."""
    pair = write_pair(tmp_path, "localhost", issuer="leaf")
    seen: list[bytes] = []

    def impostor(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        connection.sendall(response(200, b'{"status":"healthy","mode":"operational","version":"0.1.0"}'))

    with peer(impostor, (Path(pair["TLS_CERT_PATH"]), Path(pair["TLS_KEY_PATH"]))) as port:
        found = examine(server.environ, SIGIL_PORT=str(port))
    assert [request.split()[1] for request in seen] == [b"/health"]
    assert "does not show the certificate" in " ".join(text for _, text, _ in found.findings["server"])
    assert "another certificate than" in found.the("certificate").text


def test_no_finding_quotes_a_secret(server: LiveServer) -> None:
    secret = "whsec-secret-of-this-test-0123456789abcdef"
    url = f"http://127.0.0.1:{free_port()}/hooks?token=secret-of-the-path"
    environ = {**server.environ, "WEBHOOK_URL": url, "WEBHOOK_SECRET": secret, "API_KEY": "k" * 40}
    for options in ([], ["--send-test"]):
        output = examine(environ, *options, SIGIL_WORKERS="x").output
        for text in (TOKEN, secret, "secret-of-the-path", server.mnemonic, "k" * 40):
            assert text not in output


def test_a_worker_that_ended_is_open_and_many_that_ended_have_failed() -> None:
    with LiveServer(workers=2) as server:
        assert examine(server.environ).states("workers") == {"ok"}
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: restarts(server) == 1 and len(server.workers()) == 2, "the next worker")
        found = examine(server.environ)
        assert found.the("workers").state == "open"
        assert "1 died" in found.the("workers").text
        for count in (2, 3):
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until(lambda count=count: restarts(server) == count and len(server.workers()) == 2, "the next one")
        # They may have been mended since: the text claims no more than the figures show.
        found = examine(server.environ)
        assert found.the("workers").state == "failed"
        assert "many have ended: 3 replaced" in found.the("workers").text
        assert "none within the last 6 s" in found.the("workers").text
        assert "restart the service" in found.the("workers").next_step


def test_a_command_without_the_settings_of_the_server_says_so(server: LiveServer) -> None:
    found = examine({**server.environ, "SIGIL_MNEMONIC_PATH": ""})
    assert found.states("server") == {"ok"}
    assert found.the("settings").state == "failed"
    assert "or run this with the settings of the server" in found.the("settings").next_step


def test_a_variable_that_is_no_setting_names_the_list_once(server: LiveServer) -> None:
    found = examine({**server.environ, "SIGIL_TEST_NO_SETTING": "1"})
    (unknown,) = (one for one in found.findings["settings"] if "SIGIL_TEST_NO_SETTING" in one.text)
    assert (unknown.text.count("docs/"), unknown.next_step) == (1, "unset it")


def test_a_reload_that_was_refused_is_a_finding(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text("k" * 40)
    with LiveServer(workers=1, API_KEY_FILE=str(keys)) as server:
        assert examine(server.environ).states("reload") == {"ok"}
        keys.write_text("short")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: any(line["event"] == "reload_refused" for line in server.log()), "the refusal")
        keys.write_text("k" * 40)
        found = examine(server.environ)
        assert found.the("reload").state == "failed"
        assert "reload_refused" in found.the("reload").next_step
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: any(line["event"] == "reload_finished" for line in server.log()), "the reload")
        assert examine(server.environ).states("reload") == {"ok"}


def test_a_proxy_that_is_not_trusted_is_named() -> None:
    with LiveServer(workers=1) as server:
        with server.client() as client:
            client.get("/info", headers={"X-Forwarded-For": "192.0.2.1"})
        found = examine(server.environ)
        assert found.the("proxy_headers").state == "open"
        assert "TRUSTED_PROXY_IP" in found.the("proxy_headers").next_step


def test_files_that_others_can_read_are_named_with_the_command_that_mends_them(server: LiveServer) -> None:
    mnemonic = Path(server.environ["SIGIL_MNEMONIC_PATH"])
    mnemonic.chmod(0o644)
    server.state.chmod(0o755)
    key = Path(server.environ["TLS_KEY_PATH"])
    key.chmod(0o644)
    try:
        found = examine(server.environ)
    finally:
        mnemonic.chmod(0o600)
        server.state.chmod(0o700)
        key.chmod(0o600)
    texts = " ".join(" ".join(finding) for finding in found.findings["permissions"])
    assert found.failed == {"permissions"}
    assert "SIGIL_MNEMONIC_PATH" in texts
    assert "TLS_KEY_PATH" in texts
    assert "chmod 600" in texts
    assert str(server.state) in texts


@needs_root
def test_another_user_gets_the_user_to_run_it_as(server: LiveServer) -> None:
    text = as_user(EXAMINE, server.environ)
    assert "this runs as user 10001, and the server as user 0" in text
    assert "docker-compose exec sigil sigil doctor" in text
    findings = json.loads(text)["findings"]
    # What that user cannot read is the consequence, and comes later.
    assert next(found["name"] for found in findings if found["state"] == "failed") == "permissions"


@needs_root
def test_no_finding_has_the_identity_of_the_server_removed() -> None:
    with LiveRelay() as relay, InitModeServer(workers=1, RELAY_URL=relay.url) as server:
        server.commit(WORDS)
        text = as_user(EXAMINE, server.environ)
    assert "permission denied" in text
    assert "remove it" not in text


def test_init_mode_is_named_with_the_address_of_the_wizard() -> None:
    with InitModeServer(workers=1) as server:
        found = examine(server.environ)
        assert found.the("server").state == "open"
        assert "/init" in found.the("server").next_step
        assert server.token() not in found.output


def test_a_server_that_the_wizard_made_is_examined_with_its_identity() -> None:
    with LiveRelay() as relay, InitModeServer(workers=1, RELAY_URL=relay.url) as server:
        server.commit(WORDS)
        wait_until(lambda: server.modes(1) == {"operational"}, "the operational server")
        found = examine(server.environ)
        assert found.states("server") == found.states("relay_trust") == {"ok"}, found.findings


def test_another_state_directory_than_that_of_the_server_is_named(server: LiveServer, tmp_path: Path) -> None:
    found = examine(server.environ, SIGIL_STATE_DIR=str(tmp_path / "another"))
    assert found.states("store") == {"open", "ok"}
    assert "the running server has another one" in found.the("store").text
    assert not (tmp_path / "another").exists()


def test_another_version_than_the_running_one_is_named(server: LiveServer) -> None:
    body = b'{"status":"healthy","mode":"operational","version":"9.9.9"}'
    with peer(sends(response(200, body))) as port:
        found = examine(server.environ, SIGIL_HTTP_PORT=str(port), SIGIL_PORT="")
    assert found.the("versions").state == "failed"
    assert "9.9.9" in found.the("versions").text


@needs_root
def test_a_resolver_that_hangs_does_not_hold_up_the_command_or_its_end(server: LiveServer, tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.77.0.53\noptions timeout:30 attempts:5\n")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.77.0.53", 53))
        script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(resolver)]
        began = time.monotonic()
        ended = subprocess.run(
            [*command, sys.executable, "-m", "sigil", "doctor"],
            env={**server.environ, "RELAY_URL": "http://relay.example.com:8080"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert time.monotonic() - began < 30
    assert "the resolver did not answer" in ended.stdout
    assert (ended.returncode, ended.stderr) == (1, "")


def test_while_everything_hangs_it_ends_in_30_seconds_and_at_once_on_an_interrupt(server: LiveServer) -> None:
    with peer(hangs) as port:
        url = f"http://127.0.0.1:{port}"
        environ = {
            **server.environ, "SIGIL_HTTP_PORT": str(port), "SIGIL_PORT": "", "RELAY_URL": url,
            "WEBHOOK_URL": url, "WEBHOOK_SECRET": "w" * 40,
        }  # fmt: skip
        began = time.monotonic()
        found = examine(environ, "--send-test")
        assert time.monotonic() - began < 30
        assert {"server", "relay", "webhook"} <= found.failed
        running = subprocess.Popen(
            [sys.executable, "-m", "sigil", "doctor"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        # By then it waits: with all that hangs, it takes longer.
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(3)
        running.send_signal(signal.SIGINT)
        assert running.wait(15) == 130
        assert running.communicate() == (b"", b"")
