"""A stack of production for tests: its settings, its mnemonic's file, and a device at its relay."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from sigil.device import Device
from sigil.protocol.identity import generate_mnemonic
from tests.containers.stack import V2, Stack
from tests.flows.websocket_devices import WebSocketDevices
from tests.support.ports import free_port

T = TypeVar("T")
LIMITED = {"sigil": 3 << 30, "relay": 1 << 30, "postgres": 1 << 30, "state": 16 << 20}
"""The services that run, and their memory limits in bytes."""
SERVER_UID = 10001
FILES = ("docker-compose.yml", "docker-compose.prod.yml")
RELAY_URL = "https://relay.example.com"
"""What devices sign. No proxy runs here: tests connect to the relay's published ports."""


class Production(Stack):
    """Behind a proxy of deploy/, by its settings; `make prod` accepts them."""

    def __init__(
        self,
        folder: Path,
        compose: str = V2,
        *,
        files: tuple[str, ...] | None = FILES,
        mnemonic: str = "",
        **settings: str,
    ) -> None:
        self.socket_port = free_port()
        self.mnemonic = folder / "mnemonic.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.mnemonic.write_text(mnemonic or generate_mnemonic(), encoding="ascii")
        self.mnemonic.chmod(0o600)
        os.chown(self.mnemonic, SERVER_UID, SERVER_UID)
        super().__init__(
            folder,
            compose,
            files=files,
            SIGIL_PUBLIC_URL="https://sigil.example.com",
            RELAY_PUBLIC_URL=RELAY_URL,
            SIGIL_ATTESTATION_REQUIRED="false",
            SIGIL_MNEMONIC_FILE=str(self.mnemonic),
            TLS_AUTO_GENERATE="true",
            RELAY_WS_PUBLISH=f"127.0.0.1:{self.socket_port}",
            BUILD_NETWORK="host",
            SIGIL_STORE_SIZE="64MiB",
            # The containers of many tests share the cores of one machine.
            SIGIL_WORKERS="1",
            RELAY_WORKERS="1",
            **settings,
        )
        self.write_settings(TRUSTED_PROXY_IP=f"{self.subnet}.2")

    def write_settings(self, **changed: str) -> None:
        super().write_settings(**changed)
        (self.folder / ".env").chmod(0o600)

    def check_limits(self) -> None:
        for service, limit in LIMITED.items():
            host = self.inspect(service)["HostConfig"]
            assert (host["Memory"], host["MemorySwap"]) == (limit, limit), service
            assert 0 < host["PidsLimit"] <= 1024
            assert not host["Ulimits"], "a limit of descriptors in the Compose file failed to start"
        assert self.inspect("sigil")["HostConfig"]["NanoCpus"] == 2 * 10**9

    def make_api_key(self) -> str:
        self.api_key = self.exec("sigil", "sigil", "keygen").stdout.strip()
        return self.api_key

    def identity(self) -> str:
        """server_id and pictogram, as `sigil identity` prints them."""
        return self.exec("sigil", "sigil", "identity").stdout


class RelayOfStack:
    """A stack's relay, for `WebSocketDevices`."""

    def __init__(self, stack: Production) -> None:
        self._stack = stack
        self.url = RELAY_URL
        self.ws_url = f"ws://127.0.0.1:{stack.socket_port}/ws"

    def client(self, **options: Any) -> httpx.Client:
        return self._stack.relay_client(**options)


class Listening(WebSocketDevices):
    """Devices that only collect their pushes. With `registered`, they connect as devices that registered before."""

    def __init__(self, stack: Production, registered: Device | None = None) -> None:
        super().__init__(RelayOfStack(stack), 1, None)  # type: ignore[arg-type]
        self._registered = registered is not None
        if registered is not None:
            self.devices = [registered]

    def register(self) -> None:
        if not self._registered:
            super().register()

    def _handle_push(self, device: Device, push: dict[str, Any]) -> None:
        self.seen[push["challenge_id"], push["push_id"]] += 1

    def has_push_of(self, challenge: dict[str, Any]) -> bool:
        return any(name == challenge["challenge_id"] for name, _ in self.seen)


def while_listening(
    stack: Production, registered: Device | None, work: Callable[[Listening], Awaitable[T]], seconds: float = 120
) -> T:
    """The result of `work` while a device is connected to the relay."""

    async def run() -> T:
        async with asyncio.timeout(seconds), Listening(stack, registered) as listening:
            return await work(listening)

    return asyncio.run(run())


def new_version(stack: Production, schema: str = "") -> str:
    """Changes the sources that the next build of the stack takes; its version. `schema`: of the session store."""
    package = stack.folder / "sigil" / "__init__.py"
    version = f"9.9.{secrets.randbelow(10**6)}"
    text = re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', package.read_text(encoding="utf-8"))
    package.write_text(text, encoding="utf-8")
    if schema:
        state = stack.folder / "sigil" / "app" / "state.py"
        text = re.sub(r'STORE_SCHEMA = ".*"', f'STORE_SCHEMA = "{schema}"', state.read_text(encoding="utf-8"))
        state.write_text(text, encoding="utf-8")
    return version
