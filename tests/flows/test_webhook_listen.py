"""`sigil webhook listen`: every form of a request that a client may send, and every form of a host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sigil.protocol.webhook import signed_headers
from sigil.webhooks.sample import sample
from tests.support.live import DEADLINE
from tests.support.ports import free_port

SECRET = "a secret of a webhook receiver in tests"


@dataclass
class Listening:
    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rstrip("/").rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=DEADLINE)

    def sends(self, *parts: bytes) -> bytes:
        with self.connect() as client:
            for part in parts:
                client.sendall(part)
            return everything(client)

    def prints(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def prints_event(self) -> str:
        line = self.prints()
        while not self.prints().startswith("}"):
            pass
        return line


def everything(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return received


@contextlib.contextmanager
def listening(*arguments: str) -> Iterator[Listening]:
    environ = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sigil", "webhook", "listen", "--port", "0", *arguments]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Listening(process, process.stdout.readline().removeprefix("listening on ").strip())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listening]:
    with listening() as running:
        yield running


def head(method: str, body: bytes, *more: str) -> bytes:
    event_id = f"evt_{json.loads(body)['challenge_id']}" if body else "evt_x"
    signed = signed_headers([SECRET], event_id, int(time.time()), body)
    lines = [f"{method} / HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in signed.items()), *more, "", ""]
    return "\r\n".join(lines).encode()


def chunked(body: bytes, size: int = 7) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_chunked_body_is_verified(listener: Listening) -> None:
    _, body = sample()
    for coded in (chunked(body), chunked(body, 1), chunked(body).replace(b"0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n")):
        response = listener.sends(head("POST", body, "Transfer-Encoding: chunked"), coded)
        assert response.startswith(b"HTTP/1.1 200 "), response
        assert listener.prints_event().startswith("VERIFIED challenge.expired")


def test_a_client_that_waits_for_100_continue_gets_it(listener: Listening) -> None:
    _, body = sample()
    with listener.connect() as client:
        client.sendall(head("POST", body, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert everything(client).startswith(b"HTTP/1.1 200 ")
    assert listener.prints_event().startswith("VERIFIED")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_another_method_is_named_and_is_no_wrong_signature(listener: Listening, method: str) -> None:
    response = listener.sends(head(method, b""))
    assert response.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST\r\n" in response
    assert listener.prints() == f"REFUSED  {method!r}: a webhook is a POST request"


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_large_body_is_named_as_such(listener: Listening, coding: str) -> None:
    body = json.dumps({"challenge_id": "x", "padding": "y" * 70_000}).encode()
    if coding == "length":
        response = listener.sends(head("POST", body, f"Content-Length: {len(body)}"), body)
    else:
        response = listener.sends(head("POST", body, "Transfer-Encoding: chunked"), chunked(body, 4096))
    assert response.startswith(b"HTTP/1.1 413 ")
    assert listener.prints() == "REFUSED  the body is larger than 64 KiB"


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"])
def test_what_is_no_http_is_a_400_and_no_traceback(listener: Listening, sent: bytes) -> None:
    assert b" 400 " in listener.sends(sent).partition(b"\r\n")[0]
    _, body = sample()
    assert listener.sends(head("POST", body, f"Content-Length: {len(body)}"), body).startswith(b"HTTP/1.1 200 ")
    assert listener.prints_event().startswith("VERIFIED")


def test_slow_clients_hold_up_no_other_and_are_ended(listener: Listening) -> None:
    _, body = sample()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(listener.connect()) for _ in range(20)]
        for number, client in enumerate(slow):
            client.sendall(head("POST", body, f"Content-Length: {len(body)}")[: 20 if number % 2 else None])
        assert listener.sends(head("POST", body, f"Content-Length: {len(body)}"), body).startswith(b"HTTP/1.1 200 ")
        assert listener.prints_event().startswith("VERIFIED")
        for client in slow:
            assert everything(client) == b""
    # Those whose headers were whole.
    assert {listener.prints() for _ in range(10)} == {"REFUSED  the body did not arrive whole"}


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("::1", "http://[::1]:"),
        ("[::1]", "http://[::1]:"),
        ("localhost", "http://localhost:"),
        ("0", "http://127.0.0.1:"),
        ("127.1", "http://127.0.0.1:"),
        ("*", "http://[::1]:"),
        ("::", "http://[::1]:"),
    ],
)
def test_every_form_of_a_host_is_listened_on(host: str, origin: str) -> None:
    _, body = sample()
    with listening("--host", host, "--count", "1") as running:
        assert running.url.startswith(origin), running.url
        assert running.sends(head("POST", body, f"Content-Length: {len(body)}"), body).startswith(b"HTTP/1.1 200 ")
        assert running.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("host", ["[127.0.0.1]", "127.0.0.1:9000", "http://localhost", "256.1.1.1", ""])
def test_another_form_is_one_line(host: str) -> None:
    with listening("--host", host) as refused:
        assert refused.process.wait(DEADLINE) == 1
        assert refused.process.stderr is not None
        [line] = refused.process.stderr.read().splitlines()
        assert line.startswith("sigil: --host must be an address of this host")


def test_a_port_in_use_is_one_line() -> None:
    with (
        socket.create_server(("127.0.0.1", free_port())) as used,
        listening("--port", str(used.getsockname()[1])) as refused,
    ):
        assert refused.process.wait(DEADLINE) == 1
        assert refused.process.stderr is not None
        assert "set --port to another port" in refused.process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_the_normal_end(number: signal.Signals) -> None:
    with listening() as running:
        running.process.send_signal(number)
        assert running.process.wait(DEADLINE) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""
