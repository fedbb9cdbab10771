"""The servers that the conformance tests share. Each test uses its own devices and API keys."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sigil.device.test_phone.roots import TestRoot
from tests.support.ordering import last_of_folder

from .attesting import APPS
from .integrator import Integrator, approval
from .server import Server, read_all
from .wire import API_KEYS, Device, ServerIdentity

PRESET = "a-pre-set-key-of-more-than-32-characters"
PRESET_SHAPED = "sgk_test_" + "ab" * 32
REVOKED_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
REVOKED_SHORT = "deadbeef"
RATE = 60
WEB_ORIGIN = "https://sigil.example.com:8443"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of expiry run last, so that the time passes while other tests run. The order has no other effect."""
    last_of_folder(items, "conformance", lambda item: "conformance/test_expiry" in item.nodeid)


def new_preset_key() -> str:
    """A pre-set key that the server does not know yet."""
    key = f"pre-set-key-{secrets.token_hex(16)}"
    API_KEYS.append(key)
    return key


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    """Stops the server at the end if a test has started it, and checks its exit code and its output."""
    try:
        yield server
        if server.process is not None:
            assert server.stop() == 0, server.output()[-3000:]
            assert server.secrets_in_output() == []
    finally:
        server.discard()


@pytest.fixture(scope="session")
def _root_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance-roots") / "roots"


@pytest.fixture(scope="session")
def attestation_root(_root_folder: Path) -> TestRoot:
    """The root of the hardware that the attesting server trusts."""
    return TestRoot.create(_root_folder)


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory, _root_folder: Path) -> Iterator[dict[str, Server]]:
    """All servers with their settings. Each starts when a test first uses it."""
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
        "attesting": {
            **APPS,
            "TRUSTED_PROXY_IP": "127.0.0.1",
            "SIGIL_ATTESTATION_ROOTS": str(_root_folder / "roots.pem"),
        },
        "web": {"SIGIL_PUBLIC_URL": WEB_ORIGIN},
        "restartable": {"API_KEY_FILE": str(keys)},
        "limited": {"SIGIL_RATE_LIMIT": f"{RATE}/min", "TRUSTED_PROXY_IP": "127.0.0.1"},
    }
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_running(Server(folder / name, chosen))) for name, chosen in settings.items()}


@pytest.fixture(scope="session")
def server(_servers: dict[str, Server]) -> Server:
    """The server of most tests: no rate limits, five pending challenges per device."""
    return _servers["main"].start()


@pytest.fixture(scope="session")
def public_server(_servers: dict[str, Server]) -> Server:
    """A server with a public URL, number matching for all, revoked keys and a device rate."""
    return _servers["public"].start()


@pytest.fixture(scope="session")
def web_server(_servers: dict[str, Server]) -> Server:
    """A server whose origin has web devices."""
    return _servers["web"].start()


@pytest.fixture(scope="session")
def attesting_server(_servers: dict[str, Server], attestation_root: TestRoot) -> Server:
    """A server that accepts every kind of attestation, under a root for tests, and requires none."""
    assert attestation_root.certificates
    return _servers["attesting"].start()


@pytest.fixture(scope="session")
def limited_server(_servers: dict[str, Server]) -> Server:
    """A server with per-address rate limits that trusts the forwarded header of 127.0.0.1 alone."""
    return _servers["limited"].start()


@pytest.fixture
def restartable_server(_servers: dict[str, Server]) -> Server:
    """A server for tests that kill its workers, restart it or send it signals. It is running when a test begins."""
    server = _servers["restartable"]
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


# The server keeps results for 600 s. On a machine so busy that the first challenges are older than this, new ones are
# created.
MAX_AGE_SECONDS = 400


class ExpiringChallenges:
    """Challenges with a lifetime of 30 s, created before all tests."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._create_all()

    def _create_all(self) -> None:
        server = self.server
        self.created_at = time.monotonic()
        self.owner = Integrator(server, server.identity.api_key())
        self.device, self.device_at_limit, self.answered_device = Device(), Device(), Device()
        self.matching_device = Device()
        self.unanswered = self._create(self.device)
        self.cancelled_late = self._create(self.device)
        self.challenges_at_limit = [self._create(self.device_at_limit) for _ in range(5)]
        self.answered = self._create(self.answered_device)
        self.response_body = approval(self.answered_device, self.answered)
        self.with_match_code = self._create(self.matching_device, number_matching=True)
        self.response = server.fetch("POST", "/respond", self.response_body)
        self.listed_before_expiry = self.pending(self.device)

    def _create(self, device: Device, **more: Any) -> dict[str, Any]:
        return self.owner.challenge(device, expires_in_seconds=30, **more)

    def pending(self, device: Device) -> list[str]:
        body = device.pending_body(self.server.identity.server_id)
        answer = self.server.fetch("POST", "/device/pending", body).json()
        return [payload["challenge_id"] for payload in answer["challenges"]]

    def after_expiry(self) -> ExpiringChallenges:
        """Waits until the last of them has expired."""
        if time.monotonic() - self.created_at > MAX_AGE_SECONDS:
            self._create_all()
        last = self.with_match_code["expires_at"]
        deadline = time.monotonic() + 180
        while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) <= last:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self


@pytest.fixture(scope="session", autouse=True)
def expiring(server: Server) -> ExpiringChallenges:
    return ExpiringChallenges(server)


def seconds_until_cut_off(server: Server, head: bytes, parts: Callable[[], Iterator[bytes]]) -> tuple[float, bytes]:
    """Sends a body that never ends; the seconds until the server closed the connection, and its response."""
    with server.socket() as connection:
        connection.sendall(head)
        began = time.monotonic()
        received = b""
        parts_left = parts()
        while time.monotonic() - began < 120:
            connection.settimeout(0.5)
            try:
                if part := next(parts_left, b""):
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
    """Two clients that never finish their body. They wait while the other tests run."""
    common = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nContent-Type: application/json\r\n"
    half = [b'{"challenge_id": "']
    with ThreadPoolExecutor(2) as pool:
        yield {
            "half": pool.submit(
                seconds_until_cut_off, server, common + b"Content-Length: 200\r\n\r\n", lambda: iter(half)
            ),
            "drip": pool.submit(
                seconds_until_cut_off,
                server,
                common + b"Transfer-Encoding: chunked\r\n\r\n",
                lambda: iter([b"1\r\n{\r\n"] + [b"1\r\n \r\n"] * 100),
            ),
        }


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Creates servers for one test, not yet started. They are stopped and deleted after it."""
    servers: list[Server] = []

    def make(**settings: str) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}", settings))
        return servers[-1]

    yield make
    for server in servers:
        running = server.process is not None and server.process.poll() is None
        code = server.stop() if running else 0
        server.discard()
        assert code == 0
        assert server.secrets_in_output() == []
