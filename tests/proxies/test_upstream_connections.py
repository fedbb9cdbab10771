"""What reaches the server behind a proxy: headers, connections, and requests while the server changes."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sigil.device import Device
from sigil.serving.tls.issuing import issue, pem_of
from sigil.serving.tls.self_signed import write_file
from tests.flows.backend import ACTION
from tests.proxies.conftest import BEHIND, Stack
from tests.proxies.recording_upstream import RecordingUpstream
from tests.proxies.running import NAMES, SIGIL, Proxy, Upstream, proxy, raw, read_all, status_of, write_pair
from tests.support.live import LiveServer, wait_until

CLEARED = (
    "Forwarded",
    "Via",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
)


@pytest.fixture(params=NAMES)
def recorded(request: Any) -> Iterator[tuple[Proxy, RecordingUpstream]]:
    with RecordingUpstream() as upstream, proxy(request.param, upstream.upstream) as running:
        yield running, upstream


def test_the_server_gets_the_headers_of_the_proxy_and_none_of_the_client(
    recorded: tuple[Proxy, RecordingUpstream],
) -> None:
    running, upstream = recorded
    spoofed = [f"{name}: 192.0.2.1" for name in (*CLEARED, "X-Forwarded-For", "X-Real-IP")]
    lines = [*spoofed, "X-Forwarded-Proto: http", "X-Forwarded-Host: evil.test", "X-Mine: kept"]
    with running.connect(source="127.0.1.7") as connection:
        connection.sendall(raw("GET", "/info?wait=1", *lines))
        assert status_of(read_all(connection)) == 200
    (head,) = upstream.heads()
    request, *fields = head.decode().split("\r\n")
    sent = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    assert request == "GET /info?wait=1 HTTP/1.1"
    assert sent["host"] == SIGIL
    assert sent["x-forwarded-for"] == sent["x-real-ip"] == "127.0.1.7"
    assert sent["x-forwarded-proto"] == "https"
    assert sent.get("x-forwarded-host", SIGIL) == SIGIL
    assert sent["x-mine"] == "kept"
    assert not [name for name in CLEARED if name.lower() in sent]
    assert sent.get("connection", "keep-alive") == "keep-alive"


def test_requests_share_a_connection_to_the_server(recorded: tuple[Proxy, RecordingUpstream]) -> None:
    running, upstream = recorded
    with running.client() as client:
        for _ in range(30):
            assert client.get("/info").status_code == 200
    assert len(upstream.heads()) == 30
    assert len(upstream.connections) == 1


def test_a_body_over_the_limit_does_not_reach_the_server(recorded: tuple[Proxy, RecordingUpstream]) -> None:
    """Before it is read: its length is in the request's head."""
    running, upstream = recorded
    with running.client() as client:
        for path, limit in (("/respond", 64 * 1024), ("/mpa/request", 256 * 1024)):
            assert client.post(path, content=b"x" * (limit + 1)).status_code == 413
            assert client.post(path, content=b"x" * limit).status_code == 200
    assert [head.split(b" ")[1] for head in upstream.heads()] == [b"/respond", b"/mpa/request"]


@pytest.mark.parametrize("name", NAMES)
def test_no_request_fails_while_the_server_reloads(name: str, stack: Stack) -> None:
    """Reads and writes, over connections of the pool that the server closes."""
    with proxy(name, stack.upstream()) as running:  # type: ignore[arg-type]
        statuses: Counter[int] = Counter()
        done = threading.Event()

        def work(number: int) -> None:
            device, key = Device.generate(), {"Authorization": f"Bearer {stack.server.api_key}"}
            with running.client(source=f"127.0.2.{number}", headers=key) as client:
                body = {"device_public_key": device.wire_key, "action": ACTION}
                created = client.post("/challenge", json=body)
                statuses[created.status_code] += 1
                path = f"/v1/auth/challenge/{created.json()['challenge_id']}"
                while not done.is_set():
                    statuses[client.get(f"{path}/status").status_code] += 1
                    statuses[client.post("/device/pending", json={}).status_code] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        before = len(reloads(stack.server))
        os.kill(stack.server.pid, signal.SIGHUP)
        wait_until(lambda: len(reloads(stack.server)) > before, "the server to reload")
        done.set()
        for thread in threads:
            thread.join()
    # 400 is the server's answer to the empty body, 429 that to an address that sent too many of them.
    assert set(statuses) <= {200, 201, 400, 429}, statuses
    assert statuses[200] > 20


def reloads(server: LiveServer) -> list[dict[str, Any]]:
    return [line for line in server.log() if line["event"] == "reload_finished"]


@pytest.mark.parametrize("name", NAMES)
def test_a_renewed_certificate_of_the_server_is_loaded(name: str) -> None:
    """A self-signed one is its own authority: the proxy has to trust the new one."""
    with (
        LiveServer(workers=1, **BEHIND) as server,
        proxy(name, Upstream(f"127.0.0.1:{server.port}", server.certificate)) as running,  # type: ignore[arg-type]
        running.client() as client,
    ):
        assert client.get("/health").status_code == 200
        write_pair(server.certificate.parent, "localhost")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: reloads(server), "the server to reload")

        # The proxy starts new processes too, and the former ones close the connections of before.
        def verified() -> bool:
            with running.client() as another:
                return another.get("/health").status_code == 200

        wait_until(verified, "the proxy to verify the new certificate")


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_that_read_the_file_before_a_renewal_accepts_the_certificate_after_it(
    name: str, tmp_path: Path
) -> None:
    """Without a reload: it has a copy of the file, which does not change."""
    copy = tmp_path / "cert.pem"
    with contextlib.ExitStack() as stopped:
        server = stopped.enter_context(LiveServer(workers=1, **BEHIND))
        shutil.copy(server.certificate, copy)
        running = stopped.enter_context(proxy(name, Upstream(f"127.0.0.1:{server.port}", copy)))  # type: ignore[arg-type]
        client = stopped.enter_context(running.client())
        assert client.get("/health").status_code == 200
        first, authority = x509.load_pem_x509_certificates(server.certificate.read_bytes())
        private = load_pem_private_key((server.certificate.parent / "key.pem").read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        names = list(first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        renewed = issue(private, names, datetime.datetime.now(datetime.UTC), authority)
        write_file(server.certificate, pem_of(renewed), 0o644)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: reloads(server), "the server to reload")
        served = ssl.get_server_certificate(("127.0.0.1", server.port), timeout=60)
        assert x509.load_pem_x509_certificate(served.encode()) == renewed[0] != first
        # The first one may meet a connection of before.
        assert [client.get("/health").status_code for _ in range(5)][1:] == [200] * 4


@pytest.mark.parametrize("name", NAMES)
def test_a_renewed_certificate_of_the_proxy_is_served(name: str, stack: Stack) -> None:
    with proxy(name, stack.upstream()) as running:  # type: ignore[arg-type]
        assert _verifies(running)
        write_pair(running.certificates, SIGIL, "relay.test")
        # A client that trusts the new certificate alone.
        wait_until(lambda: _verifies(running), "the proxy to serve the new certificate")


def _verifies(running: Proxy) -> bool:
    try:
        running.connect().close()
    except OSError:
        return False
    return True
