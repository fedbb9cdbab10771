"""A real server in init mode, and helpers to set it up."""

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
"""Published words: never use them. For tests that do not search the output of a server for words."""
UNKNOWN_CHALLENGE = "/v1/auth/challenge/00000000-0000-4000-8000-000000000000/status"


class InitModeServer(LiveServer):
    """`with InitModeServer() as server`: on loopback, unless the settings differ."""

    def __init__(self, *, workers: int = 2, **settings: str) -> None:
        super().__init__(workers=workers, **{"SIGIL_MODE": "init", "SIGIL_RATE_LIMIT": "off", **settings})
        del self.environ["SIGIL_MNEMONIC_PATH"]
        (self.directory / "mnemonic").unlink()

    def client(self, **options: Any) -> httpx.Client:
        """Sends the setup token, unless the headers of a request have another one."""
        headers = {**self._authorization(), **options.pop("headers", {})}
        return super().client(headers=headers, **options)

    def _authorization(self) -> dict[str, str]:
        token = self.environ.get("SIGIL_INIT_TOKEN") or (self.token() if self._has_started() else "")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _has_started(self) -> bool:
        return self.log_path.exists() and '"event":"init_mode"' in self.log_path.read_text()

    def post(self, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> httpx.Response:
        """Send on a new connection, so that any worker may answer; with the setup token, or with `token` ("": none)."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}" if token else "none"
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
        """The modes that `/info` reports on `count` connections: the kernel distributes them over all workers."""
        return {self.get("/info").json()["mode"] for _ in range(count)}

    def token(self) -> str:
        """The token in the log of the latest start."""
        return self.address().partition("#token=")[2]

    def address(self) -> str:
        addresses = [line["open"] for line in self.log() if line["event"] == "init_mode"]
        return str(addresses[-1])

    def recreate_container(self) -> None:
        """As when a container is recreated: the process ends, tmpfs is lost, volumes stay."""
        self.stop()
        shutil.rmtree(self.state)


def identity_of(words: str) -> ServerIdentity:
    return ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(words))


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the status and code of an error; return its details."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    details: dict[str, Any] = answer.json()["error"].get("details", {})
    return details
