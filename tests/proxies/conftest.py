"""A server and a relay behind each proxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.proxies.running import NAMES, RELAY, SIGIL, Proxy, Upstream, proxy
from tests.support.live import LiveServer
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port

# The services trust the address of the proxy alone; clients of these tests come from other addresses of loopback.
BEHIND = {"TRUSTED_PROXY_IP": "127.0.0.1"}


@dataclass(frozen=True)
class Stack:
    server: LiveServer
    relay: LiveRelay

    def upstream(self) -> Upstream:
        return Upstream(
            sigil=f"127.0.0.1:{self.server.port}",
            certificate=self.server.certificate,
            relay=f"127.0.0.1:{self.relay.port}",
            sockets=f"127.0.0.1:{self.relay.environ['RELAY_WS_PORT']}",
        )


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    sockets = str(free_port())
    public = {"RELAY_PUBLIC_URL": f"https://{RELAY}", "RELAY_WS_PORT": sockets, "RELAY_PUSH_CONSOLE": "true"}
    with (
        LiveRelay(**public, **BEHIND) as relay,
        LiveServer(
            workers=2,
            RELAY_URL=relay.url,
            RELAY_PUBLIC_URL=f"https://{RELAY}",
            SIGIL_PUBLIC_URL=f"https://{SIGIL}",
            **BEHIND,
        ) as server,
    ):
        yield Stack(server, relay)


@pytest.fixture(scope="module", params=NAMES)
def front(request: Any, stack: Stack) -> Iterator[Proxy]:
    """Each proxy in turn, in front of the stack."""
    with proxy(request.param, stack.upstream()) as running:
        yield running
