"""A worker under clients that open connections and leave them: it serves all others, and gets its descriptors back."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import http_2
from tests.serving.running import Running, eventually, write_pair

# Times short enough for a test, and no limit but the one under test.
LAX = {"first_request": 600, "idle": 600, "write": 600, "stalled": 600, "per_address": 100_000}
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["tls", "plain"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "plain":
        return {}
    pair = write_pair(tmp_path / "pair", "a")
    return {"tls": [str(pair / "cert.pem"), str(pair / "key.pem")]}


def limits(**connections: float) -> dict[str, Any]:
    return {"connections": LAX | connections}


def start(
    folder: Path,
    transport: dict[str, Any],
    descriptors: int | None = None,
    host: str = "127.0.0.1",
    **connections: float,
) -> Running:
    return Running(folder, descriptors, workers=1, host=host, limits=limits(**connections), **transport)


@contextlib.contextmanager
def flood(server: Running, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        flooding = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.settimeout(60)
            client.connect(("127.0.0.1", server.port))
            with contextlib.suppress(OSError):
                client.sendall(sent)
            flooding.append(client)
        yield flooding


def descriptors(server: Running) -> int:
    (pid,) = server.pids
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def serves(server: Running) -> bool:
    return server.get(timeout=5).status_code == 200


def was_closed(client: socket.socket) -> bool:
    """Whether the server has ended the connection."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"PRI * HT", b"\x16\x03\x01\x00"], ids=["nothing", "preface", "record"])
@pytest.mark.parametrize("limit", [150, 1024])
def test_more_connections_than_descriptors_do_not_deafen_a_worker(
    tmp_path: Path, transport: dict[str, Any], limit: int, sent: bytes
) -> None:
    with start(tmp_path, transport, limit) as server:
        server.ready()
        assert serves(server)
        before = descriptors(server)
        with flood(server, limit + 500, sent):
            eventually(lambda: serves(server), "an answer during the flood")
        eventually(lambda: descriptors(server) <= before + 1, "all descriptors released")
        assert serves(server)


def test_a_connection_without_a_request_is_closed(tmp_path: Path, transport: dict[str, Any]) -> None:
    with start(tmp_path, transport, first_request=2) as server:
        server.ready()
        with flood(server, 5, b"") as silent, flood(server, 5, b"PRI * HT") as begun:
            eventually(lambda: all(map(was_closed, silent + begun)), "the end of all connections")
            assert serves(server)
        eventually(lambda: server.events("connections_closed"), "a log line")


Connect = Callable[..., socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def opened(server: Running, protocol: str, host: str = "127.0.0.1") -> socket.socket:
            client = socket.create_connection((host, server.port), timeout=60)
            if server.tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.set_alpn_protocols([protocol])
                client = context.wrap_socket(client)
            return stack.enter_context(client)

        yield opened


def test_a_connection_that_is_silent_after_its_handshake_is_closed(
    tmp_path: Path, transport: dict[str, Any], connect: Connect
) -> None:
    with start(tmp_path, transport, first_request=2) as server:
        server.ready()
        clients = [connect(server, protocol) for protocol in ("h2", "http/1.1")]
        eventually(lambda: all(map(was_closed, clients)), "the end of both connections")


def test_an_idle_connection_is_closed(tmp_path: Path, transport: dict[str, Any], connect: Connect) -> None:
    with start(tmp_path, transport, idle=2) as server:
        server.ready()
        one, two = connect(server, "http/1.1"), connect(server, "h2")
        one.sendall(GET)
        two.sendall(http_2.PREFACE + http_2.headers(1, http_2.HEALTH))
        assert one.recv(100).startswith(b"HTTP/1.1 200")
        assert two.recv(100)
        for client in (one, two):
            eventually(lambda client=client: was_closed(client), "the end of an idle connection")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_request_is_known_by_its_connection_on_a_listener_for_both_families(
    tmp_path: Path, transport: dict[str, Any], connect: Connect, host: str
) -> None:
    with start(tmp_path, transport, host="::", first_request=2) as server:
        server.ready()
        used = connect(server, "h2", host)
        used.sendall(http_2.PREFACE + http_2.headers(1, http_2.HEALTH))
        assert used.recv(100)
        # It is younger, and is closed for what both would be without the request.
        silent = connect(server, "h2", host)
        eventually(lambda: was_closed(silent), "the end of the silent connection")
        assert not was_closed(used)


def test_a_request_in_progress_keeps_its_connection(
    tmp_path: Path, transport: dict[str, Any], connect: Connect
) -> None:
    with start(tmp_path, transport, idle=1, per_address=8) as server:
        server.ready()
        client = connect(server, "http/1.1")
        client.sendall(GET.replace(b"/ ", b"/poll "))
        eventually(lambda: server.events("waiting"), "a request in progress")
        with flood(server, 40, b""):
            eventually(lambda: server.events("connections_closed"), "the limit of the address")
            other = connect(server, "http/1.1")
            other.sendall(GET)
            eventually(lambda: was_closed(other), "the end of an idle connection")
        assert not was_closed(client)


def unread_http_1(client: socket.socket) -> None:
    client.sendall(GET.replace(b"/ ", b"/large ") * 400)


def unread_http_2(client: socket.socket) -> None:
    """A window of zero bytes, and the responses of many streams."""
    block = http_2.block(*http_2.fields(path="/large"))
    requests = b"".join(http_2.headers(2 * number + 1, block) for number in range(60))
    client.sendall(http_2.PREFACE + http_2.settings(initial_window_size=0) + requests)


@pytest.mark.parametrize("attack", [("http/1.1", unread_http_1), ("h2", unread_http_2)], ids=["http/1.1", "h2"])
@pytest.mark.parametrize("limit", [{"stalled": 2}, {"write": 3}], ids=["many bytes", "late"])
def test_a_client_that_reads_no_response_is_closed(
    tmp_path: Path,
    transport: dict[str, Any],
    connect: Connect,
    attack: tuple[str, Callable[[socket.socket], None]],
    limit: dict[str, float],
) -> None:
    protocol, send = attack
    with start(tmp_path, transport, **limit) as server:
        server.ready()
        client = connect(server, protocol)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        send(client)
        closed = eventually(lambda: server.events("connections_closed"), "a log line")
        assert closed[0]["connections"] == {"unread_response": 1}
        eventually(lambda: was_closed(client), "the end of the connection")
        assert serves(server)


def test_a_cancelled_request_does_not_end_the_connection_of_another(
    tmp_path: Path, transport: dict[str, Any], connect: Connect
) -> None:
    with start(tmp_path, transport, write=2) as server:
        server.ready()
        client = connect(server, "h2")
        poll, large = (http_2.block(*http_2.fields(path=path)) for path in ("/poll", "/large"))
        client.sendall(http_2.PREFACE + http_2.settings(initial_window_size=0) + http_2.headers(1, poll))
        client.sendall(http_2.headers(3, large))
        eventually(lambda: server.events("waiting"), "a request in progress")
        client.sendall(http_2.reset(3))
        other = connect(server, "h2")
        other.sendall(http_2.PREFACE + http_2.settings(initial_window_size=0) + http_2.headers(1, large))
        eventually(lambda: was_closed(other), "the end of a younger connection, without a request in progress")
        assert not was_closed(client)


def test_one_address_keeps_the_newest_of_its_idle_connections(tmp_path: Path, transport: dict[str, Any]) -> None:
    with start(tmp_path, transport, per_address=10) as server:
        server.ready()
        with flood(server, 60, b"P") as flooding:
            eventually(lambda: sum(map(was_closed, flooding)) >= 50, "the end of the oldest")
            assert serves(server)
