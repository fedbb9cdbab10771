"""A real server before its first boot, as the browser opens it."""

from __future__ import annotations

from tests.first_boot.newborn import Newborn

TOKEN = "a-token-of-these-tests"
NAME = "Example Sign-in"


class InitServer(Newborn):
    """Asks for TOKEN unless it is told otherwise."""

    def __init__(self, *, workers: int = 1, **settings: str) -> None:
        # Limited as everybody's is: what a browser asks for has to fit.
        usual = {"SIGIL_INIT_TOKEN": TOKEN, "SIGIL_SERVER_NAME": NAME, "SIGIL_RATE_LIMIT": "600/min"}
        super().__init__(workers=workers, **usual | settings)
        # By its name, as the log and the documentation give it.
        self.url = f"https://localhost:{self.port}"
