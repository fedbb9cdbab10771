"""A real server before its first boot, and what its log tells the person who started it."""

from __future__ import annotations

import re
from typing import Any

from tests.live import LiveServer, wait_until

TOKEN = "a-token-of-these-tests"
NAME = "Example Sign-in"


class InitServer(LiveServer):
    """Init mode on loopback; asks for TOKEN unless it is told otherwise."""

    def __init__(self, *, workers: int = 1, **settings: str) -> None:
        chosen = {"SIGIL_MODE": "init", "SIGIL_INIT_TOKEN": TOKEN, "SIGIL_SERVER_NAME": NAME, **settings}
        super().__init__(workers=workers, **chosen)
        del self.environ["SIGIL_MNEMONIC_PATH"]
        # By its name, as the log and the documentation give it; LiveServer's own client uses the address.
        self.origin = f"https://localhost:{self.port}"

    def info(self) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.get("/info").json())

    def address_in_log(self) -> str:
        """The address that the log tells a person to open."""

        def found() -> str | None:
            match = re.search(r"https://[^\s\"]+/init[^\s\"]*", self.log_path.read_text())
            return match and match[0]

        return str(wait_until(found, "the address of the wizard in the log"))
