"""Every way in which a port can fail, and the certificates that clients must not take."""

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

from tests.stand_ins.clients import ApnsClient, ByHand, FcmClient
from tests.support.live import DEADLINE, wait_until
from tests.support.providers import Providers


@pytest.mark.parametrize(
    ("mode", "told"),
    [("untrusted", "verify failed"), ("wrong_name", "certificate is not valid for"), ("expired", "has expired")],
)
@pytest.mark.parametrize("provider", ["apns", "fcm", "token"])
def test_a_certificate_that_is_no_good_is_not_taken(providers: Providers, provider: str, mode: str, told: str) -> None:
    url = {"apns": providers.apns_url, "fcm": providers.fcm_url, "token": providers.fcm_token_url}[provider]
    providers.listener(provider, mode)
    with providers.client() as client, pytest.raises(httpx.ConnectError, match=told):
        client.get(url)
    providers.start(provider)
    with providers.client() as client:
        assert client.get(url).status_code in {404, 405}


def test_a_killed_provider_drops_connections_and_refuses_new_ones_and_comes_back(
    providers: Providers, apns: ApnsClient, fcm: FcmClient
) -> None:
    assert apns.push().status_code == 200
    providers.kill("apns")
    with pytest.raises(httpx.TransportError):
        apns.push()
    with providers.client() as client, pytest.raises(httpx.ConnectError):
        client.get(providers.apns_url)
    assert fcm.push().status_code == 200
    assert (told := providers.counters("apns"))["listener"] == "refusing"
    assert told["connections"] == 0
    providers.start("apns")
    with providers.client(base_url=providers.apns_url) as client:
        assert ApnsClient(providers, client).push().status_code == 200


def test_a_black_hole_takes_connections_and_says_nothing(providers: Providers, apns: ApnsClient) -> None:
    assert apns.push().status_code == 200
    providers.listener("apns", "black_hole")
    at = urlsplit(providers.apns_url)
    socket.create_connection((at.hostname, at.port), DEADLINE).close()
    with providers.client() as client, pytest.raises(httpx.ConnectTimeout):
        client.get(providers.apns_url, timeout=0.3)
    apns.client.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        apns.push()


def test_what_was_open_before_a_black_hole_goes_on_after_it(providers: Providers) -> None:
    with ByHand(providers) as peer:
        peer.answer(peer.push())
        providers.listener("apns", "black_hole")
        stream = peer.push()
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.answer(stream)
        peer.socket.settimeout(DEADLINE)
        providers.start("apns")
        assert peer.answer(stream)[0] == 200


def test_connections_can_be_closed_now(providers: Providers) -> None:
    with ByHand(providers) as peer:
        peer.answer(peer.push())
        providers.connections("apns", close=True)
        peer.at_the_end()


def test_only_http_2_is_spoken(providers: Providers) -> None:
    at = urlsplit(providers.fcm_url)
    plain = socket.create_connection((at.hostname, at.port), DEADLINE)
    with providers.tls("http/1.1").wrap_socket(plain, server_hostname=at.hostname) as stranger:
        stranger.settimeout(DEADLINE)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.selected_alpn_protocol() is None
        heard = b""
        try:
            while data := stranger.recv(4096):
                heard += data
        except ssl.SSLError:
            pass
        assert not heard.startswith(b"HTTP/1.1")


def test_they_listen_on_loopback_alone(providers: Providers) -> None:
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


def test_keys_are_for_us_alone_and_stay_when_the_stand_ins_are_started_anew(tmp_path: Path) -> None:
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


def test_a_directory_that_others_may_enter_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with _ready(tmp_path) as process:
        assert process.wait(DEADLINE) == 1
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_them_while_pushes_and_devices_wait() -> None:
    with Providers() as other, ThreadPoolExecutor(1) as pool, ByHand(other) as peer:
        peer.answer(peer.push())
        other.script("apns", fault="silence")
        peer.push()
        waiting = pool.submit(other.seen, after=other.last(), wait=25)
        wait_until(lambda: other.counters("apns")["streams"] == 1, "the silent push")
        assert other.stop() == 0
        peer.at_the_end()
        assert isinstance(waiting.exception(DEADLINE), httpx.TransportError)


def test_a_connection_in_the_middle_of_its_handshake_is_killed_too(providers: Providers) -> None:
    at = urlsplit(providers.apns_url)
    plain = socket.create_connection((at.hostname, at.port), DEADLINE)
    providers.kill("apns")
    heard = b""
    with contextlib.suppress(OSError), providers.tls("h2").wrap_socket(plain, server_hostname=at.hostname) as peer:
        heard = peer.recv(4096)
    assert heard == b""
