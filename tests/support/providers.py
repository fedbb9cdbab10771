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
    """A JWT as Apple expects it. None removes a claim; `kid` is in the header."""
    claims = {"iss": env["APNS_TEAM_ID"], "iat": int(time.time()), "kid": env["APNS_KEY_ID"], **changed}
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": claims.pop("kid")} if "kid" in claims else None
    return jwt.encode(claims, key or Path(env["APNS_KEY_PATH"]).read_text(), alg, headers)


def assertion(env: dict[str, str], *, key: str | None = None, alg: str = "RS256", **changed: Any) -> str:
    """The JWT that a service account exchanges for an access token. None removes a claim; `kid` is in the header."""
    account, now = json.loads(Path(env["FCM_SERVICE_ACCOUNT"]).read_text()), int(time.time())
    own = {"iss": account["client_email"], "aud": account["token_uri"], "scope": SCOPE, "iat": now, "exp": now + 3600}
    claims = {name: value for name, value in {**own, **changed}.items() if value is not None}
    headers = {"kid": claims.pop("kid", account["private_key_id"])}
    return jwt.encode(claims, key or account["private_key"], alg, headers)


def apns_token(prefix: str = "") -> str:
    """A device token that APNs accepts; `prefix` is hexadecimal, for rules."""
    return (prefix + secrets.token_hex(32))[:64]


def fcm_token(prefix: str = "") -> str:
    """A registration token that FCM accepts."""
    return f"{prefix}{secrets.token_urlsafe(16)}:{secrets.token_urlsafe(96)}"


class Providers:
    """`with Providers() as providers: …`; `env` are the settings of a relay. deploy/providers/README.md describes the
    rules."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="providers-"))
        self.log_path = self.directory / "log"
        self.env: dict[str, str] = {}
        self.webpush_env: dict[str, str] = {}
        self.chromium_options: list[str] = []
        self.firefox_preferences: dict[str, Any] = {}
        self.apns_url = self.fcm_url = self.fcm_token_url = self.webpush_url = self.control_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: httpx.Client | None = None

    def __enter__(self) -> Providers:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> Providers:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.providers", "--directory", str(self.directory / "made")],
                env={"PATH": os.environ.get("PATH", "")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )
        published = json.loads(wait_until(self._first_line, "the stand-ins"))
        self.env, self.webpush_env = published["env"], published["webpush_env"]
        self.chromium_options = published["browsers"]["chromium"]
        self.firefox_preferences = published["browsers"]["firefox"]
        self.webpush_url = published["webpush_url"]
        self.apns_url, self.fcm_url = published["apns_url"], published["fcm_url"]
        self.fcm_token_url, self.control_url = published["fcm_token_url"], published["control_url"]
        self._control = httpx.Client(base_url=self.control_url, trust_env=False, timeout=DEADLINE)
        return self

    def _first_line(self) -> str:
        assert self._process is not None
        text = self.log_path.read_text()
        assert self._process.poll() is None, f"the stand-ins exited: {text}"
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
        """Send SIGTERM, and return the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def tls(self, *protocols: str) -> ssl.SSLContext:
        """A TLS context that trusts the stand-ins only."""
        context = ssl.create_default_context(cafile=self.env["SSL_CERT_FILE"])
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def client(self, **options: Any) -> httpx.Client:
        """A plain HTTP/2 client that trusts the stand-ins."""
        options = {"http2": True, "verify": self.tls(), "trust_env": False, "timeout": DEADLINE, **options}
        return httpx.Client(**options)

    def control(self, method: str, path: str, message: Any = None, **query: Any) -> Any:
        """A request to the control port; AssertionError with its message for an error."""
        assert self._control is not None
        answer = self._control.request(method, path, json=message, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def script(self, provider: str, **rule: Any) -> int:
        """Add a rule, such as `script("apns", token="ab", outcome="Unregistered")`; returns its id."""
        number: int = self.control("POST", "/rules", {"provider": provider, **rule})["ids"][0]
        return number

    def clear_rules(self) -> None:
        """Delete all rules."""
        self.control("DELETE", "/rules")

    def settings(self, provider: str, **changed: Any) -> dict[str, Any]:
        settings: dict[str, Any] = self.control("POST", "/settings", {provider: changed})
        return settings

    def seen(
        self, provider: str | None = None, *, after: int = 0, token: str = "", wait: float = 0
    ) -> list[dict[str, Any]]:
        """Accepted pushes with numbers over `after`. With `wait`, waits up to so many seconds for the first."""
        query = {"after": after, "token": token, "wait": wait} | ({"provider": provider} if provider else {})
        pushes: list[dict[str, Any]] = self.control("GET", "/seen", **query)["pushes"]
        return pushes

    def last(self) -> int:
        """The number of the newest push, for `after`."""
        number: int = self.control("GET", "/seen", limit=1)["last"]
        return number

    def counters(self, provider: str | None = None) -> dict[str, Any]:
        counters: dict[str, Any] = self.control("GET", "/counters")
        return counters[provider] if provider else counters

    def connections(self, provider: str, **changes: Any) -> int:
        """Change all open connections; returns their number."""
        number: int = self.control("POST", "/connections", {"provider": provider, **changes})["connections"]
        return number

    def listener(self, provider: str, mode: str, *, drop: bool = False) -> None:
        self.control("POST", "/listener", {"provider": provider, "mode": mode, "drop": drop})

    def kill(self, provider: str) -> None:
        """As if the process of one provider were killed: connections are aborted, new ones refused."""
        self.listener(provider, "refusing", drop=True)

    def start(self, provider: str) -> None:
        """Listen again, on the same port."""
        self.listener(provider, "serving")

    def subscriptions(self) -> set[str]:
        """The tokens of browsers that have a subscription."""
        return {one["token"] for one in self.control("GET", "/subscriptions")}

    def revoke(self) -> None:
        """Revoke all access tokens of FCM."""
        self.control("POST", "/revoke", {})

    def reset(self, seed: int = 0) -> None:
        """Back to the initial state, except for connections, access tokens and the numbers of pushes."""
        self.control("POST", "/reset", {"seed": seed})
