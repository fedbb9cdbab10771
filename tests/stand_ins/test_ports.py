"""Faults of a port, and certificates that clients must not accept."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.stand_ins.clients import ApnsClient, FcmClient, H2Client
from tests.support.live import DEADLINE, wait_until
from tests.support.providers import Providers


@pytest.mark.parametrize(
    ("mode", "error"),
    [("untrusted", "verify failed"), ("wrong_name", "certificate is not valid for"), ("expired", "has expired")],
)
@pytest.mark.parametrize("provider", ["apns", "fcm", "token"])
def test_an_invalid_certificate_is_not_accepted(providers: Providers, provider: str, mode: str, error: str) -> None:
    url = {"apns": providers.apns_url, "fcm": providers.fcm_url, "token": providers.fcm_token_url}[provider]
    providers.listener(provider, mode)
    with providers.client() as client, pytest.raises(httpx.ConnectError, match=error):
        client.get(url)
    providers.start(provider)
    with providers.client() as client:
        assert client.get(url).status_code in {404, 405}


def test_a_killed_provider_drops_connections_refuses_new_ones_and_can_restart(
    providers: Providers, apns: ApnsClient, fcm: FcmClient
) -> None:
    assert apns.push().status_code == 200
    providers.kill("apns")
    with pytest.raises(httpx.TransportError):
        apns.push()
    with providers.client() as client, pytest.raises(httpx.ConnectError):
        client.get(providers.apns_url)
    assert fcm.push().status_code == 200
    assert (counters := providers.counters("apns"))["listener"] == "refusing"
    assert counters["connections"] == 0
    providers.start("apns")
    with providers.client(base_url=providers.apns_url) as client:
        assert ApnsClient(providers, client).push().status_code == 200


def test_a_black_hole_accepts_connections_and_sends_nothing(providers: Providers, apns: ApnsClient) -> None:
    assert apns.push().status_code == 200
    providers.listener("apns", "black_hole")
    at = urlsplit(providers.apns_url)
    socket.create_connection((at.hostname, at.port), DEADLINE).close()
    with providers.client() as client, pytest.raises(httpx.ConnectTimeout):
        client.get(providers.apns_url, timeout=0.3)
    apns.client.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        apns.push()


def test_open_connections_continue_after_a_black_hole(providers: Providers) -> None:
    with H2Client(providers) as peer:
        peer.response(peer.push())
        providers.listener("apns", "black_hole")
        stream = peer.push()
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.response(stream)
        peer.socket.settimeout(DEADLINE)
        providers.start("apns")
        assert peer.response(stream)[0] == 200


def test_connections_can_be_closed_now(providers: Providers) -> None:
    with H2Client(providers) as peer:
        peer.response(peer.push())
        providers.connections("apns", close=True)
        peer.until_closed()


def test_only_http_2_is_supported(providers: Providers) -> None:
    at = urlsplit(providers.fcm_url)
    plain = socket.create_connection((at.hostname, at.port), DEADLINE)
    with providers.tls("http/1.1").wrap_socket(plain, server_hostname=at.hostname) as client:
        client.settimeout(DEADLINE)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.selected_alpn_protocol() is None
        received = b""
        try:
            while data := client.recv(4096):
                received += data
        except ssl.SSLError:
            pass
        assert not received.startswith(b"HTTP/1.1")


def test_they_listen_on_loopback_only(providers: Providers) -> None:
    for url in (providers.apns_url, providers.fcm_url, providers.fcm_token_url, providers.control_url):
        assert urlsplit(url).hostname == "127.0.0.1"
        other = socket.create_server(("127.0.0.2", urlsplit(url).port or 0))
        other.close()


def _ready(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.providers", "--directory", str(directory)],
        env={"PATH": os.environ.get("PATH", "")},
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_keys_are_private_and_survive_a_restart(tmp_path: Path) -> None:
    directory = tmp_path / "made"
    lines = []
    for _ in range(2):
        with _ready(directory) as process:
            assert process.stdout is not None
            lines.append(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    keys = [line.partition(b'"APNS_TEAM_ID":')[2].partition(b",")[0] for line in lines]
    assert keys[0] == keys[1] != b""


def test_a_directory_that_others_may_enter_is_rejected_unchanged(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with _ready(tmp_path) as process:
        assert process.wait(DEADLINE) == 1
    assert list(tmp_path.iterdir()) == []


def test_sigterm_stops_them_during_pushes_and_long_polls() -> None:
    with Providers() as other, ThreadPoolExecutor(1) as pool, H2Client(other) as peer:
        peer.response(peer.push())
        other.script("apns", fault="silence")
        peer.push()
        waiting = pool.submit(other.seen, after=other.last(), wait=25)
        wait_until(lambda: other.counters("apns")["streams"] == 1, "the silent push")
        assert other.stop() == 0
        peer.until_closed()
        assert isinstance(waiting.exception(DEADLINE), httpx.TransportError)


def test_a_connection_during_its_handshake_is_aborted_too(providers: Providers) -> None:
    at = urlsplit(providers.apns_url)
    plain = socket.create_connection((at.hostname, at.port), DEADLINE)
    providers.kill("apns")
    received = b""
    with contextlib.suppress(OSError), providers.tls("h2").wrap_socket(plain, server_hostname=at.hostname) as peer:
        received = peer.recv(4096)
    assert received == b""
