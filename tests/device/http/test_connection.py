"""The connection bounds responses, follows no redirect, and trusts only the chosen certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sigil.device.errors import AnswerUnusable, ServerRefused, TrustUnusable, Unreachable
from sigil.device.http.connection import ServerConnection
from sigil.device.http.exchange import MAX_RESPONSE_BYTES
from sigil.device.http.tls import TlsTrust, verification
from tests.device.clock import MovingClock
from tests.device.fake_server import FakeServer, as_json, problem
from tests.device.tls import Tls, certificate

URL = "https://auth.example.com"


class Chunks(httpx.SyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def answering(status: int, *chunks: bytes, stream: Iterator[bytes] | None = None) -> ServerConnection:
    response = httpx.Response(status, stream=Chunks(stream or iter(chunks)))
    return ServerConnection(URL, transport=httpx.MockTransport(lambda _: response))


def test_a_redirect_is_an_error_and_is_not_followed(server: FakeServer) -> None:
    server.failures.append((302, b""))
    with ServerConnection(server.url) as connection, pytest.raises(ServerRefused) as refused:
        connection.info()
    assert (refused.value.status, refused.value.code) == (302, "HTTP_302")


def test_an_endless_response_is_cut_off() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_RESPONSE_BYTES // 1000 + 2):
            yield b" " * 1000
        pytest.fail("more was read than the limit")

    with pytest.raises(AnswerUnusable, match="larger"):
        answering(200, stream=endless()).info()


def test_a_response_that_trickles_is_cut_off(clock: MovingClock) -> None:
    def trickle() -> Iterator[bytes]:
        while True:
            clock.sleep(9)
            yield b" "

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Chunks(trickle())))
    with (
        ServerConnection(URL, transport=transport, monotonic=clock) as connection,
        pytest.raises(Unreachable, match="longer"),
    ):
        connection.info()
    assert len(clock.slept) == 4


def test_a_compressed_response_is_not_unpacked() -> None:
    packed = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Chunks(iter([b"\x1f\x8b"])))
    connection = ServerConnection(URL, transport=httpx.MockTransport(lambda _: packed))
    assert connection.info() == b"\x1f\x8b"


def test_a_malformed_response_has_its_own_error() -> None:
    with pytest.raises(AnswerUnusable):
        answering(200, b'{"challenges": 1}').pending({})


def test_an_error_response_keeps_the_servers_code() -> None:
    status, body = problem(429, "RATE_LIMITED", "Slow down.")
    with pytest.raises(ServerRefused, match="Slow down") as refused:
        answering(status, body).info()
    assert (refused.value.code, refused.value.retryable) == ("RATE_LIMITED", True)


@pytest.mark.parametrize("body", [b"<html>", b"", as_json({"error": {"code": "\x1b[2J", "message": "m"}})])
def test_a_malformed_code_is_not_repeated(body: bytes) -> None:
    with pytest.raises(ServerRefused) as refused:
        answering(502, body).info()
    assert refused.value.code == "HTTP_502"


def test_a_stopped_server_is_unreachable(server: FakeServer) -> None:
    with FakeServer(server.clock) as gone:
        url = gone.url
    with ServerConnection(url) as connection, pytest.raises(Unreachable):
        connection.info()


def test_proxies_of_the_environment_are_not_used(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with ServerConnection(server.url) as connection:
        assert b"server_id" in connection.info()


def test_an_untrusted_certificate_is_rejected(tls: Tls) -> None:
    with ServerConnection(tls.url) as connection, pytest.raises(Unreachable, match="is not trusted"):
        connection.info()
    assert tls.paths == []


def test_a_self_signed_certificate_is_trusted_as_ca(tls: Tls) -> None:
    with ServerConnection(tls.url, TlsTrust(ca_pem=tls.certificate.pem)) as connection:
        assert connection.info() == b"{}"


def test_a_ca_is_valid_only_for_the_names_in_its_certificates(tls: Tls) -> None:
    url = tls.url.replace("127.0.0.1", "localhost")
    with ServerConnection(url, TlsTrust(ca_pem=tls.certificate.pem)) as connection, pytest.raises(Unreachable):
        connection.info()


def test_another_ca_is_rejected(tls: Tls, tmp_path: Path) -> None:
    trust = TlsTrust(ca_pem=certificate(tmp_path).pem)
    with ServerConnection(tls.url, trust) as connection, pytest.raises(Unreachable):
        connection.info()


def test_a_pinned_certificate_is_trusted(tls: Tls) -> None:
    with ServerConnection(tls.url, TlsTrust(sha256=tls.certificate.sha256)) as connection:
        assert connection.info() == b"{}"


def test_a_server_without_the_pinned_certificate_receives_no_request(tls: Tls) -> None:
    connection = ServerConnection(tls.url, TlsTrust(sha256="00" * 32))
    with connection, pytest.raises(Unreachable, match="not the pinned one"):
        connection.info()
    assert tls.paths == []


def test_a_pinned_connection_cannot_skip_the_comparison() -> None:
    context = verification(URL, TlsTrust(sha256="00" * 32))
    assert isinstance(context, ssl.SSLContext)
    in_memory = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ssl.SSLError, match="not been compared"):
        in_memory.write(b"a secret")


@pytest.mark.parametrize(
    "pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_file_without_a_certificate_is_rejected(pem: str) -> None:
    with pytest.raises(TrustUnusable):
        verification(URL, TlsTrust(ca_pem=pem))
