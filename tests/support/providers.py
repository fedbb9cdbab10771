"""The stand-ins of APNs and FCM for tests: `python -m deploy.providers` as a subprocess on free ports."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import jwt

from tests.support.live import DEADLINE, wait_until

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def provider_token(env: dict[str, str], *, key: str | None = None, alg: str = "ES256", **changed: Any) -> str:
    """A JWT of Apple's; None removes a claim, and `kid` is in the header."""
    claims = {"iss": env["APNS_TEAM_ID"], "iat": int(time.time()), "kid": env["APNS_KEY_ID"], **changed}
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": claims.pop("kid")} if "kid" in claims else None
    return jwt.encode(claims, key or Path(env["APNS_KEY_PATH"]).read_text(), alg, headers)


def assertion(env: dict[str, str], *, key: str | None = None, alg: str = "RS256", **changed: Any) -> str:
    """What the service account shows to get an access token; None removes a claim, and `kid` is in the header."""
    account, now = json.loads(Path(env["FCM_SERVICE_ACCOUNT"]).read_text()), int(time.time())
    own = {"iss": account["client_email"], "aud": account["token_uri"], "scope": SCOPE, "iat": now, "exp": now + 3600}
    claims = {name: value for name, value in {**own, **changed}.items() if value is not None}
    headers = {"kid": claims.pop("kid", account["private_key_id"])}
    return jwt.encode(claims, key or account["private_key"], alg, headers)


def apns_token(prefix: str = "") -> str:
    """A device token that APNs would take; `prefix` is hexadecimal, for rules."""
    return (prefix + secrets.token_hex(32))[:64]


def fcm_token(prefix: str = "") -> str:
    """A registration token that FCM would take."""
    return f"{prefix}{secrets.token_urlsafe(16)}:{secrets.token_urlsafe(96)}"


class Providers:
    """`with Providers() as providers: …`; `env` are a relay's settings. deploy/providers/README.md has what can be
    scripted."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="providers-"))
        self.log_path = self.directory / "log"
        self.env: dict[str, str] = {}
        self.apns_url = self.fcm_url = self.fcm_token_url = self.control_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: httpx.Client | None = None

    def __enter__(self) -> Providers:
        try:
            return self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _begin(self) -> Providers:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.providers", "--directory", str(self.directory / "made")],
                env={"PATH": os.environ.get("PATH", "")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )
        told = json.loads(wait_until(self._first_line, "the stand-ins"))
        self.env = told["env"]
        self.apns_url, self.fcm_url = told["apns_url"], told["fcm_url"]
        self.fcm_token_url, self.control_url = told["fcm_token_url"], told["control_url"]
        self._control = httpx.Client(base_url=self.control_url, trust_env=False, timeout=DEADLINE)
        return self

    def _first_line(self) -> str:
        assert self._process is not None
        text = self.log_path.read_text()
        assert self._process.poll() is None, f"the stand-ins ended: {text}"
        line, end, _ = text.partition("\n")
        return line if end else ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is not None:
            self._control.close()
        try:
            if self._process is not None:
                self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def tls(self, *protocols: str) -> ssl.SSLContext:
        """Trusts the stand-ins alone."""
        context = ssl.create_default_context(cafile=self.env["SSL_CERT_FILE"])
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def client(self, **options: Any) -> httpx.Client:
        """A plain HTTP/2 client that trusts them."""
        options = {"http2": True, "verify": self.tls(), "trust_env": False, "timeout": DEADLINE, **options}
        return httpx.Client(**options)

    def ask(self, method: str, path: str, message: Any = None, **query: Any) -> Any:
        """The control port; AssertionError with its words when it refuses."""
        assert self._control is not None
        answer = self._control.request(method, path, json=message, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def script(self, provider: str, **rule: Any) -> int:
        """Add a rule, as `script("apns", token="ab", outcome="Unregistered")`; its id."""
        number: int = self.ask("POST", "/rules", {"provider": provider, **rule})["ids"][0]
        return number

    def clear(self) -> None:
        """No rules any more."""
        self.ask("DELETE", "/rules")

    def settings(self, provider: str, **changed: Any) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("POST", "/settings", {provider: changed})
        return told

    def seen(
        self, provider: str | None = None, *, after: int = 0, token: str = "", wait: float = 0
    ) -> list[dict[str, Any]]:
        """Accepted pushes with numbers over `after`; with `wait` at least one, or none after so many seconds."""
        query = {"after": after, "token": token, "wait": wait} | ({"provider": provider} if provider else {})
        told: list[dict[str, Any]] = self.ask("GET", "/seen", **query)["pushes"]
        return told

    def last(self) -> int:
        """The number of the newest push, for `after`."""
        number: int = self.ask("GET", "/seen", limit=1)["last"]
        return number

    def counters(self, provider: str | None = None) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("GET", "/counters")
        return told[provider] if provider else told

    def connections(self, provider: str, **what: Any) -> int:
        """Do something to all open connections now; how many there were."""
        number: int = self.ask("POST", "/connections", {"provider": provider, **what})["connections"]
        return number

    def listener(self, provider: str, mode: str, *, drop: bool = False) -> None:
        self.ask("POST", "/listener", {"provider": provider, "mode": mode, "drop": drop})

    def kill(self, provider: str) -> None:
        """One provider as if its process were killed: connections are aborted, new ones refused."""
        self.listener(provider, "refusing", drop=True)

    def start(self, provider: str) -> None:
        """It listens again, on its former port."""
        self.listener(provider, "serving")

    def revoke(self) -> None:
        """All access tokens of FCM are worth nothing now."""
        self.ask("POST", "/revoke", {})

    def reset(self, seed: int = 0) -> None:
        """As at the start, except for connections, access tokens and the numbers of pushes."""
        self.ask("POST", "/reset", {"seed": seed})
