"""A real server without an identity, and those who set it up."""

from __future__ import annotations

import shutil
from typing import Any

import httpx

from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from tests.support.live import LiveServer

WORDS = (
    "final purpose cinnamon drop crunch sister sponsor rack globe nothing deal whale "
    "all noodle lecture stick cargo enemy give kitchen inspire clarify cost second"
)
"""Published words: never use them. For tests that do not look for words in what a server says."""
NOBODY = "/v1/auth/challenge/00000000-0000-4000-8000-000000000000/status"


class Newborn(LiveServer):
    """`with Newborn() as server`: in init mode, on loopback unless the settings say otherwise."""

    def __init__(self, *, workers: int = 2, **settings: str) -> None:
        super().__init__(workers=workers, **{"SIGIL_MODE": "init", "SIGIL_RATE_LIMIT": "off", **settings})
        del self.environ["SIGIL_MNEMONIC_PATH"]
        (self.directory / "mnemonic").unlink()

    def post(self, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> httpx.Response:
        """From a connection of its own, so that any worker may be the one who answers."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with self.client() as client:
            return client.post(path, json={} if body is None else body, headers=headers)

    def get(self, path: str, **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path, headers=headers)

    def commit(self, words: str, token: str | None = None) -> dict[str, Any]:
        """The 201 of a commit."""
        answer = self.post("/init/commit", {"words": words}, token=token)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def modes(self, count: int = 24) -> set[str]:
        """What `count` connections are told by `/info`: the kernel spreads them over all workers."""
        return {self.get("/info").json()["mode"] for _ in range(count)}

    def token(self) -> str:
        """As the log of the latest start tells it."""
        return self.address().partition("#token=")[2]

    def address(self) -> str:
        told = [line["open"] for line in self.log() if line["event"] == "init_mode"]
        return str(told[-1])

    def lose_memory(self) -> None:
        """What a container's restart does: the process ends, tmpfs is gone, volumes stay."""
        self.stop()
        shutil.rmtree(self.state)


def identity_of(words: str) -> ServerIdentity:
    return ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(words))


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The details of an error that has to be this one."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    details: dict[str, Any] = answer.json()["error"].get("details", {})
    return details
