"""The servers that the conformance tests share; each test brings devices and API keys of its own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.ordering import last_of_folder

from .integrator import Integrator, approval
from .server import Server, read_all
from .wire import API_KEYS, Device, ServerIdentity

PRESET = "a-pre-set-key-of-more-than-32-characters"
PRESET_SHAPED = "sgk_test_" + "ab" * 32
REVOKED_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
REVOKED_SHORT = "deadbeef"
RATE = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the clock comes last, so that the clock has run meanwhile; order matters to nothing else."""
    last_of_folder(items, "conformance", lambda item: "conformance/test_expiry" in item.nodeid)


def next_key() -> str:
    """A pre-set key that the server does not know yet."""
    key = f"pre-set-key-{secrets.token_hex(16)}"
    API_KEYS.append(key)
    return key


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    """A server that starts when it is first asked for, one at a time; stopping is a test by itself."""
    try:
        yield server
        if server.process is not None:
            assert server.stop() == 0, server.output()[-3000:]
            assert server.indiscretions() == []
    finally:
        server.discard()


@pytest.fixture(scope="session")
def _fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """All servers with their settings; each starts when a test first needs it."""
    folder = tmp_path_factory.mktemp("conformance")
    API_KEYS.extend((PRESET, PRESET_SHAPED))
    keys = folder / "api-keys"
    keys.touch(mode=0o600)
    keys.write_text("a-first-key-from-a-file-32-characters-and-more\n")
    settings: dict[str, dict[str, str]] = {
        "main": {"API_KEY": f"{PRESET},{PRESET_SHAPED}"},
        "public": {
            "SIGIL_MODE": "init",
            "SIGIL_PUBLIC_URL": "https://sigil.example.com",
            "SIGIL_SERVER_NAME": "Ünïcode & Söhne",
            "SIGIL_NUMBER_MATCHING": "on",
            "SIGIL_DEVICE_RATE": "10/min",
            "SIGIL_MAX_PENDING_PER_DEVICE": "3",
            "SIGIL_REVOKED_API_KEYS": f"{REVOKED_ID.hex()},{REVOKED_SHORT}",
            "SIGIL_TELEMETRY": "minimal",
        },
        "mortal": {"API_KEY_FILE": str(keys)},
        "limited": {"SIGIL_RATE_LIMIT": f"{RATE}/min", "TRUSTED_PROXY_IP": "127.0.0.1"},
    }
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_running(Server(folder / name, chosen))) for name, chosen in settings.items()}


@pytest.fixture(scope="session")
def server(_fleet: dict[str, Server]) -> Server:
    """The server that most tests talk to: no rate limits, five pending challenges a device."""
    return _fleet["main"].start()


@pytest.fixture(scope="session")
def public_server(_fleet: dict[str, Server]) -> Server:
    """A server with a public URL, number matching for all, revoked keys and a device rate."""
    return _fleet["public"].start()


@pytest.fixture(scope="session")
def limited_server(_fleet: dict[str, Server]) -> Server:
    """A server that limits addresses and believes the forwarded header of 127.0.0.1 alone."""
    return _fleet["limited"].start()


@pytest.fixture
def mortal_server(_fleet: dict[str, Server]) -> Server:
    """A server whose workers are killed, that is started again and gets signals; running after every test."""
    server = _fleet["mortal"]
    running = server.process is not None and server.process.poll() is None
    return server if running else server.start()


@pytest.fixture(scope="session")
def identity(server: Server) -> ServerIdentity:
    return server.identity


@pytest.fixture
def owner(server: Server) -> Integrator:
    return Integrator(server, server.identity.api_key())


@pytest.fixture
def other_owner(server: Server) -> Integrator:
    return Integrator(server, server.identity.api_key())


@pytest.fixture
def device() -> Device:
    return Device()


# Results are kept for 600 s. On a machine so busy that the first ones are older than this, they are asked anew.
STALE = 400


class Ageing:
    """Challenges that live thirty seconds, made before anything else."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._ask()

    def _ask(self) -> None:
        server = self.server
        self.asked_at = time.monotonic()
        self.owner = Integrator(server, server.identity.api_key())
        self.device, self.full_device, self.answered_device = Device(), Device(), Device()
        self.coded_device = Device()
        self.unanswered = self._make(self.device)
        self.cancelled_late = self._make(self.device)
        self.full = [self._make(self.full_device) for _ in range(5)]
        self.answered = self._make(self.answered_device)
        self.answer = approval(self.answered_device, self.answered)
        self.coded = self._make(self.coded_device, number_matching=True)
        self.answer_reply = server.fetch("POST", "/respond", self.answer)
        self.listed = self.pending(self.device)

    def _make(self, device: Device, **more: Any) -> dict[str, Any]:
        return self.owner.challenge(device, expires_in_seconds=30, **more)

    def pending(self, device: Device) -> list[str]:
        body = device.pending_body(self.server.identity.server_id)
        answer = self.server.fetch("POST", "/device/pending", body).json()
        return [payload["challenge_id"] for payload in answer["challenges"]]

    def over(self) -> Ageing:
        """Waits, if need be, until the last of them has expired."""
        if time.monotonic() - self.asked_at > STALE:
            self._ask()
        last = self.coded["expires_at"]
        deadline = time.monotonic() + 180
        while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) <= last:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self


@pytest.fixture(scope="session", autouse=True)
def ageing(server: Server) -> Ageing:
    return Ageing(server)


def _cut_off(server: Server, head: bytes, parts: Callable[[], Iterator[bytes]]) -> tuple[float, bytes]:
    """Sends a body that never ends, and tells after how many seconds the server had enough of it."""
    with server.socket() as connection:
        connection.sendall(head)
        began = time.monotonic()
        received = b""
        feed = parts()
        while time.monotonic() - began < 120:
            connection.settimeout(0.5)
            try:
                if part := next(feed, b""):
                    connection.sendall(part)
                received = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            received += read_all(connection)
            break
        return time.monotonic() - began, received


@pytest.fixture(scope="session", autouse=True)
def slow_bodies(server: Server) -> Iterator[dict[str, Future[tuple[float, bytes]]]]:
    """Two clients that never finish their body; they wait while the other tests run."""
    common = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nContent-Type: application/json\r\n"
    half = [b'{"challenge_id": "']
    with ThreadPoolExecutor(2) as pool:
        yield {
            "half": pool.submit(_cut_off, server, common + b"Content-Length: 200\r\n\r\n", lambda: iter(half)),
            "drip": pool.submit(
                _cut_off,
                server,
                common + b"Transfer-Encoding: chunked\r\n\r\n",
                lambda: iter([b"1\r\n{\r\n"] + [b"1\r\n \r\n"] * 100),
            ),
        }


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers for one test alone, not yet started; they are gone after it, whatever happens."""
    made: list[Server] = []

    def make(**settings: str) -> Server:
        made.append(Server(tmp_path / f"server-{len(made)}", settings))
        return made[-1]

    yield make
    for server in made:
        running = server.process is not None and server.process.poll() is None
        code = server.stop() if running else 0
        server.discard()
        assert code == 0
        assert server.indiscretions() == []
