"""The health check of both commands, against listeners that answer well, badly, slowly or not at all."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.address import own_relay
from sigil.config.address import own_server
from sigil.serving import health_check
from sigil.serving.addresses.listen_host import reachable
from sigil.serving.health_check import Health, OwnService
from sigil.serving.settings import ConfigError
from sigil.serving.tls.self_signed import ensure_pair
from tests.support.ports import free_port

HEALTHY = b'{"status":"healthy","version":"1"}'


def answer(body: bytes = HEALTHY, status: bytes = b"200 OK", *fields: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *fields, b"", body])


Reply = Callable[[socket.socket], object]


@contextmanager
def listener(reply: bytes | Reply, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a listener that reads one request of each connection, and replies."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:

        def serve_one(connection: socket.socket) -> None:
            try:
                connection.settimeout(30)
                with tls.wrap_socket(connection, server_side=True) if tls else connection as wrapped:
                    wrapped.recv(65536)
                    if isinstance(reply, bytes):
                        wrapped.sendall(reply)
                    else:
                        reply(wrapped)
            except OSError:
                pass

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def own(port: int, host: str = "127.0.0.1", *, tls: bool = False) -> Callable[[Mapping[str, str]], OwnService]:
    return lambda _environ: OwnService(host, port, tls, "start it")


def check(port: int, *, tls: bool = False) -> Health:
    return health_check.query(own(port, tls=tls))


def unused(_environ: Mapping[str, str]) -> OwnService:
    raise AssertionError("the address of the own service is not needed")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    ensure_pair(cert, key, generate=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


def test_a_healthy_service_is_reported_with_its_body() -> None:
    with listener(answer()) as port:
        assert check(port) == Health(HEALTHY.decode(), healthy=True)


def test_an_unhealthy_service_is_reported_with_its_reason() -> None:
    body = b'{"status":"unhealthy","details":{"reason":"store"}}'
    with listener(answer(body, b"503 Service Unavailable")) as port:
        assert check(port) == Health(body.decode(), healthy=False)


def test_a_chunked_body_of_a_proxy_is_read() -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HEALTHY), HEALTHY)
    with listener(answer(chunked, b"200 OK", b"Transfer-Encoding: chunked")) as port:
        assert check(port) == Health(HEALTHY.decode(), healthy=True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        *((body, "HTTP 200, and no health") for body in (b"", b"<html>Welcome</html>", b"{}", b"[]", b"{" * 60_000)),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, "HTTP 200, and no health", id="5000 nested objects"),
        (b'{"status":{"a":1}}', '{"status":{"a":1}}'),
    ],
)
def test_another_program_on_the_port_is_not_healthy(body: bytes, text: str) -> None:
    with listener(answer(body)) as port:
        found = check(port)
    assert not found.healthy
    assert text in found.text


def test_a_redirect_is_not_followed() -> None:
    with (
        listener(answer()) as target,
        listener(answer(b"", b"302 Found", b"Location: http://127.0.0.1:%d/" % target)) as port,
    ):
        health = check(port)
    assert not health.healthy
    assert "redirects are not followed: pass the URL" in health.text


@pytest.mark.parametrize(
    "reply", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1", b"HTTP/1.1 abc\r\n\r\n", b"\x15\x03\x03\x00\x02"]
)
def test_a_port_that_does_not_speak_http_says_what_to_check(reply: bytes) -> None:
    with listener(reply) as port:
        health = check(port)
    assert health == Health(
        f"http://127.0.0.1:{port}: no HTTP answer: check the port, and http or https; start it", healthy=False
    )


def test_a_port_without_tls_says_what_to_check() -> None:
    with listener(answer()) as port:
        health = check(port, tls=True)
    assert not health.healthy
    assert "no TLS (" in health.text
    assert "check the port, and http or https; start it" in health.text


def test_a_refused_connection_says_what_to_do_next() -> None:
    port = free_port()
    assert check(port).text == f"http://127.0.0.1:{port}: connection refused: no program listens there; start it"
    server = health_check.query(lambda environ: own_server({"SIGIL_PORT": str(port)}))
    assert "check that `sigil serve` runs, with the same SIGIL_HOST, SIGIL_PORT and SIGIL_HTTP_PORT" in server.text
    relay = health_check.query(lambda environ: own_relay({"RELAY_PORT": str(port)}))
    assert "check that `sigil-relay serve` runs, with the same RELAY_HOST and RELAY_PORT" in relay.text
    assert "check the URL, and that the service runs" in health_check.query(unused, f"http://127.0.0.1:{port}").text


def test_a_name_that_does_not_exist_says_so() -> None:
    health = health_check.query(unused, "http://sigil.invalid")
    assert not health.healthy
    assert "the name of the host cannot be resolved" in health.text


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("reply", [lambda connection: time.sleep(30), drip], ids=["silence", "drip"])
def test_the_time_of_a_check_is_bounded(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "_SECONDS", 0.5)
    started = time.monotonic()
    with listener(reply) as port:
        health = check(port)
    assert "no answer within" in health.text
    assert time.monotonic() - started < 10


def test_the_lookup_of_a_name_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "_SECONDS", 0.5)
    released = threading.Event()

    def slow(*_args: object, **_named: object) -> None:
        released.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    started = time.monotonic()
    assert "no answer within" in health_check.query(unused, "http://sigil.example").text
    assert time.monotonic() - started < 10
    released.set()


def test_the_answer_that_is_read_is_bounded() -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(answer(b""))
        while True:
            sent += connection.send(b"x" * 4096)

    with listener(endless) as port:
        assert not check(port).healthy
    # What the buffers of both sockets hold is sent too.
    assert sent < 64 << 20


def test_control_characters_of_an_answer_do_not_reach_the_terminal() -> None:
    with listener(answer(b'{"status":"healthy","version":"\x1b[2J"}')) as port:
        assert "\x1b" not in check(port).text


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with listener(answer()) as port:
        assert health_check.query(unused, f"http://127.0.0.1:{port}").healthy


def test_the_request_is_what_a_proxy_expects() -> None:
    requests = []

    def keep(connection: socket.socket) -> None:
        requests.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                keep(connection)
                connection.sendall(answer())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert health_check.query(unused, f"http://localhost:{port}/a b/").healthy
        thread.join(30)
    assert requests == [b"GET /a%%20b/health HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % port]


# TLS


def test_the_certificate_of_the_own_server_is_not_verified(pair: tuple[Path, ssl.SSLContext]) -> None:
    with listener(answer(), tls=pair[1]) as port:
        assert check(port, tls=True).healthy


def test_a_url_verifies_the_certificate_and_names_the_option(pair: tuple[Path, ssl.SSLContext]) -> None:
    with listener(answer(), tls=pair[1]) as port:
        health = health_check.query(unused, f"https://127.0.0.1:{port}")
    assert not health.healthy
    assert "its certificate is not accepted (" in health.text
    assert "pass --ca FILE" in health.text


def test_a_self_signed_certificate_is_trusted_with_its_file(pair: tuple[Path, ssl.SSLContext]) -> None:
    with listener(answer(), tls=pair[1]) as port:
        for host in ("127.0.0.1", "localhost"):
            assert health_check.query(unused, f"https://{host}:{port}", str(pair[0])).healthy
        # The certificate names neither.
        assert not health_check.query(unused, f"https://127.0.0.2:{port}", str(pair[0])).healthy


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("x", "holds no certificate in PEM")])
def test_a_file_without_a_certificate_is_reported(
    content: str | None, reason: str, tmp_path: Path, pair: tuple[Path, ssl.SSLContext]
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with listener(answer(), tls=pair[1]) as port:
        health = health_check.query(unused, f"https://127.0.0.1:{port}", str(file))
    assert not health.healthy
    assert f"--ca {file}: {reason}" in health.text


# Addresses


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0", "0"),
        ("::", "::1"),
        ("0:0:0:0:0:0:0:0", "::1"),
        ("::1", "::1"),
        ("10.0.0.7", "10.0.0.7"),
        ("localhost", "localhost"),
    ],
)
def test_an_address_for_all_interfaces_is_reached_on_loopback(host: str, reached: str) -> None:
    assert reachable(host) == reached


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        ({}, "https://127.0.0.1:8443"),
        ({"SIGIL_HOST": "::", "SIGIL_PORT": "1443"}, "https://[::1]:1443"),
        ({"SIGIL_HTTP_PORT": "8081"}, "http://127.0.0.1:8081"),
        ({"SIGIL_HOST": "fe80::1%eth0"}, "https://[fe80::1%25eth0]:8443"),
        ({"SIGIL_HOST": "", "SIGIL_HTTP_PORT": ""}, "https://127.0.0.1:8443"),
    ],
)
def test_the_origin_of_the_own_server_follows_the_settings(environ: dict[str, str], origin: str) -> None:
    assert own_server(environ).origin == origin


def test_the_origin_of_the_own_relay_follows_the_settings() -> None:
    assert own_relay({}).origin == "http://127.0.0.1:8080"
    assert own_relay({"RELAY_HOST": "::", "RELAY_PORT": "1"}).origin == "http://[::1]:1"


def test_an_ipv6_address_is_queried() -> None:
    with listener(answer(), host="::1") as port:
        assert health_check.query(own(port, "::1")).healthy
        assert health_check.query(unused, f"http://[::1]:{port}").healthy


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "127.0.0.1:8443", "https://user@host", "https://:password@host", "https://h..x", "http://x:99999"],
)
def test_a_url_that_cannot_be_queried_is_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\A--url "):
        health_check.query(unused, url)


def test_a_certificate_file_needs_a_url() -> None:
    with pytest.raises(ConfigError, match="--ca needs --url"):
        health_check.query(unused, None, "/cert.pem")


# The commands


def run(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "health", *arguments]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)


SERVICES = [("sigil", "SIGIL_HTTP_PORT"), ("relay", "RELAY_PORT")]


@pytest.mark.parametrize(("module", "setting"), SERVICES)
def test_the_commands_report_by_their_exit_code(module: str, setting: str) -> None:
    with listener(answer()) as port:
        healthy = run(module, **{setting: str(port)})
        given = run(module, f"--url=http://127.0.0.1:{port}", **{setting: "1"})
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, HEALTHY.decode() + "\n", "")
    assert (given.returncode, given.stdout) == (0, HEALTHY.decode() + "\n")
    down = run(module, **{setting: str(free_port())})
    assert (down.returncode, down.stderr) == (1, "")
    assert "connection refused" in down.stdout
    wrong = run(module, **{setting: "many"})
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.endswith(f"{setting}: must be a whole number from 1 to 65535\n")


@pytest.mark.parametrize(("module", "_setting"), SERVICES)
def test_the_command_line_explains_other_arguments(module: str, _setting: str) -> None:
    assert "--ca FILE" in run(module, "--help").stdout
    for wrong in (["--urk", "x"], ["--url"], ["x"], ["--url", "http://a", "--url"]):
        ended = run(module, *wrong)
        assert ended.returncode == 2
        assert "sigil" in ended.stderr


@pytest.mark.parametrize(("module", "setting"), SERVICES)
def test_a_check_imports_no_library(module: str, setting: str) -> None:
    """An engine runs it every ten seconds: with click and httpx it took 0.13 s of processor time or more."""
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['{module}', 'health']\n"
        "try:\n"
        f"    runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print(sorted(name for name in sys.modules if '.' not in name and not name.startswith('_')))\n"
    )
    with listener(answer()) as port:
        command = [sys.executable, "-c", script]
        environ = os.environ | {setting: str(port)}
        shown = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    assert '"status":"healthy"' in shown
    for library in ("click", "httpx", "msgspec", "ssl", "http", "asyncio", "dataclasses", "cryptography"):
        assert f"'{library}'" not in shown
    assert "'sigil'" in shown
