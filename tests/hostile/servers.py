"""The server and a bearer token for each path: a server with an identity, one in init mode, one that just left it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sigil.protocol.identity import generate_mnemonic
from tests.first_boot.init_mode_server import InitModeServer
from tests.support.live import LiveServer


class Servers:
    """`for_path(path)` returns the server that serves the path, and a bearer token for it."""

    def __init__(
        self, server: LiveServer, init_mode_server: InitModeServer, initialized: InitModeServer, session: str
    ) -> None:
        self._server = server
        self._init_mode = init_mode_server
        self._initialized = initialized
        self._session = session

    def for_path(self, path: str) -> tuple[LiveServer, str]:
        if path in {"/init/api-keys", "/init/first-challenge"}:
            return self._initialized, self._session
        server = self._init_mode if path.startswith("/init/") else self._server
        return server, server.api_key


@contextmanager
def servers_by_path(server: LiveServer) -> Iterator[Servers]:
    """Starts two more servers with one worker each."""
    init_mode_server = InitModeServer(workers=1)
    init_mode_server.environ["SIGIL_INIT_TOKEN"] = init_mode_server.api_key
    with init_mode_server, InitModeServer(workers=1) as initialized:
        yield Servers(server, init_mode_server, initialized, initialized.commit(generate_mnemonic())["session"])
