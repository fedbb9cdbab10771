"""`sigil doctor`: relay, relay_trust, clock, registry."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.examination import examine
from tests.doctor.peers import black_hole, drips, floods, hangs, peer, response, sends
from tests.first_boot.init_mode_server import WORDS
from tests.preflight.test_checks import write_pair
from tests.support.live import LiveServer
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port
from tests.support.stepped_clock import SteppedClock


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay() as running:
        yield running


@pytest.fixture(scope="module")
def server(relay: LiveRelay) -> Iterator[LiveServer]:
    with LiveServer(workers=1, RELAY_URL=relay.url) as running:
        yield running


def test_a_relay_that_works_is_ok_in_every_respect(server: LiveServer) -> None:
    found = examine(server.environ)
    for name in ("relay", "relay_trust", "registry"):
        assert found.states(name) == {"ok"}, found.findings[name]
    assert "within" in found.the("clock").text
    assert server.identity.server_id in found.the("relay_trust").text
    assert found.code == 0


def test_a_refused_connection_an_unknown_name_a_black_hole_and_another_program_are_distinct(server: LiveServer) -> None:
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(black_hole())
        silent = stack.enter_context(peer(hangs))
        ssh = stack.enter_context(peer(sends(b"SSH-2.0-OpenSSH_9.2\r\n")))
        cases = {
            f"http://127.0.0.1:{free_port()}": "Connection refused",
            "http://relay.invalid:8080": "cannot be resolved",
            f"http://127.0.0.1:{hole}": "packets are lost",
            f"http://127.0.0.1:{silent}": "no answer within",
            f"http://127.0.0.1:{ssh}": "does not speak HTTP",
            server.url: "self-signed certificate",
        }
        for url, text in cases.items():
            found = examine(server.environ, RELAY_URL=url)
            assert found.the("relay").state == "failed"
            assert text in found.the("relay").text
            assert ("a stopped container has no name" in found.the("relay").next_step) == ("invalid" in url)
            assert "relay_trust" not in found.findings
            assert found.states("server") == {"ok"}


def test_the_address_of_a_server_is_not_that_of_a_relay(server: LiveServer) -> None:
    found = examine(server.environ, RELAY_URL=server.url, SSL_CERT_FILE=str(server.certificate))
    assert found.states("relay") == {"failed"}
    assert "Sigil server" in found.the("relay").text
    assert "registry" not in found.findings


@pytest.mark.parametrize("parts", [1, 7, 1000])
def test_a_proxy_that_sends_the_health_of_a_relay_in_chunks_is_no_fault(server: LiveServer, parts: int) -> None:
    body = b'{"status":"healthy","version":"1.2.3"}'
    split = [body[at : at + parts] for at in range(0, len(body), parts)]
    chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in split)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"

    def answer(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head + chunks + b"0\r\n\r\n")
        # It keeps the connection open.
        connection.recv(1)

    with peer(answer) as port:
        found = examine(server.environ, RELAY_URL=f"http://127.0.0.1:{port}")
    assert found.states("relay") == {"ok"}
    assert "version 1.2.3" in found.the("relay").text


def test_tls_to_a_port_without_tls_is_no_tls(server: LiveServer, relay: LiveRelay) -> None:
    found = examine(server.environ, RELAY_URL=relay.url.replace("http:", "https:"))
    assert "no TLS" in found.the("relay").text


def test_a_certificate_for_another_name_is_named(server: LiveServer, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "other.example.com", issuer="leaf")
    cert = Path(pair["TLS_CERT_PATH"])
    with peer(hangs, (cert, Path(pair["TLS_KEY_PATH"]))) as port:
        found = examine(server.environ, RELAY_URL=f"https://localhost:{port}", SSL_CERT_FILE=str(cert))
    assert "Hostname mismatch" in found.the("relay").text


def test_a_certificate_of_the_relay_that_ends_soon_is_named(server: LiveServer, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "localhost", issuer="leaf", days=5)
    cert = Path(pair["TLS_CERT_PATH"])
    with peer(sends(response(200, b'{"status":"healthy"}')), (cert, Path(pair["TLS_KEY_PATH"]))) as port:
        found = examine(server.environ, RELAY_URL=f"https://localhost:{port}", SSL_CERT_FILE=str(cert))
    assert found.the("relay").state == "open"
    assert "in less than 14 days" in found.the("relay").text


def test_a_server_that_is_not_trusted_gets_the_command_that_trusts_it(server: LiveServer) -> None:
    with LiveRelay(RELAY_TRUST_ON_FIRST_USE="false") as strict:
        found = examine(server.environ, RELAY_URL=strict.url)
        assert found.states("relay") == {"ok"}
        assert found.the("relay_trust").state == "failed"
        assert f"sigil-relay servers trust {server.identity.server_id}" in found.the("relay_trust").next_step


def test_no_other_identity_than_that_of_the_running_server_is_to_be_trusted(server: LiveServer, tmp_path: Path) -> None:
    mnemonic = tmp_path / "mnemonic"
    mnemonic.touch(0o600)
    mnemonic.write_text(WORDS)
    found = examine(server.environ, SIGIL_MNEMONIC_PATH=str(mnemonic)).the("relay_trust")
    assert found.state == "failed"
    assert f"the running server {server.identity.server_id}" in found.text
    assert "servers trust" not in found.next_step


def test_the_command_is_never_the_first_server_that_a_relay_trusts(server: LiveServer) -> None:
    with LiveRelay() as fresh:
        assert examine(server.environ, RELAY_URL=fresh.url).failed == {"relay_trust"}
        command = [sys.executable, "-m", "relay", "servers", "list"]
        listed = subprocess.run(command, env=fresh.environ, capture_output=True, text=True, timeout=60, check=True)
        assert listed.stdout == ""


def test_the_clock_of_this_host_is_compared_with_the_relays(server: LiveServer, tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    for step, state, text in ((-300, "failed", "300 s behind"), (300, "failed", "ahead of"), (-30, "open", "behind")):
        clock.set(step)
        found = examine({**server.environ, **clock.settings})
        assert found.the("clock").state == state
        assert text in found.the("clock").text
        assert found.states("relay_trust") == ({"ok"} if state == "open" else {"failed"})
        if state == "failed":
            assert "clocks differ" in found.the("relay_trust").text


def test_a_relay_without_its_database_is_named(server: LiveServer) -> None:
    body = b'{"status":"unhealthy","version":"1","details":{"reason":"the database cannot be reached"}}'
    with peer(sends(response(503, body))) as port:
        found = examine(server.environ, RELAY_URL=f"http://127.0.0.1:{port}")
    assert found.the("registry").state == "failed"
    assert "database cannot be reached" in found.the("registry").text


def test_without_a_relay_the_finding_is_open(server: LiveServer) -> None:
    found = examine(server.environ, RELAY_URL="")
    assert found.states("relay") == {"open"}
    assert "relay_trust" not in found.findings


@pytest.mark.parametrize("answer", [floods, drips], ids=["floods", "drips"])
def test_an_answer_without_an_end_is_one_finding(server: LiveServer, answer: object) -> None:
    with peer(answer) as port:  # type: ignore[arg-type]
        found = examine(server.environ, RELAY_URL=f"http://127.0.0.1:{port}")
    assert found.the("relay").state == "failed"


def test_what_a_hostile_relay_sends_never_reaches_the_terminal(server: LiveServer) -> None:
    escape = "\\u001b[2J\\u009b31m\\u202e\\n"
    answers = [
        response(503, f'{{"status":"unhealthy","details":{{"reason":"{escape}"}}}}'.encode()),
        response(200, f'{{"status":"healthy","version":"{escape}"}}'.encode()),
        response(200, b'{"status":' + b"[" * 50_000),
        response(200, bytes(range(256)) * 100),
        response(302, b"", "Location: https://\x1b[2J.example.com/"),
        b"\x1b[2J\x00\xff" * 100 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n{}",
    ]
    for data in answers:
        with peer(sends(data)) as port:
            ended = subprocess.run(
                [sys.executable, "-m", "sigil", "doctor"],
                env={**server.environ, "RELAY_URL": f"http://127.0.0.1:{port}"},
                capture_output=True, timeout=120, check=False,
            )  # fmt: skip
        assert not set(ended.stdout) & set(b"\x1b\x00\x9b\x07"), data[:100]
        assert "\u202e" not in ended.stdout.decode()
        assert b"this check ended" not in ended.stdout
        assert ended.stderr == b""
        # A signed request gets the same answer, which is not that of a relay.
        assert ended.returncode == 1
