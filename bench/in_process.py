"""The whole application of a worker without a network: an ASGI server without sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from bench.wire import creation_body, response_body, web_response_body
from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.attestation.credentials import issue, times
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import Attested, Facts
from sigil.config.settings import Config
from sigil.core.session_store import SessionStore
from sigil.device import Device
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.keys import PrivateKey
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.telemetry.metrics import Metrics
from sigil.telemetry.null_metrics import NullMetrics
from tests.support.web_key import WebKey

_POLICY = AttestationPolicy(
    required=True,
    kinds=frozenset({"android-key"}),
    android_apps=(("org.example.sigil", bytes(32)),),
    android_min_patch=202601,
    android_user_auth=True,
)
_ORIGIN = "https://sigil.example.com"
Headers = list[tuple[bytes, bytes]]


class InProcess:
    """An application on `store` and `count` devices. Each method except `sign` sends one request for each device.

    `attested`: the server requires attestation, and each device sends its credential. `web`: the devices are browsers.
    """

    def __init__(
        self,
        store: SessionStore,
        count: int,
        metrics: Metrics | None = None,
        *,
        attested: bool = False,
        web: bool = False,
    ) -> None:
        secrets = DerivedSecrets(*(os.urandom(32) for _ in range(6)))
        key = issue_api_key(secrets.api_key, "sgk_live_", os.urandom(16))
        self._authorization: Headers = [(b"authorization", f"Bearer {key}".encode())]
        parts = Dependencies(store=store, long_polls=LongPolls(), metrics=metrics or NullMetrics())
        policy = _POLICY if attested else AttestationPolicy()
        config = Config(public_url=_ORIGIN, device_rate=0, attestation=policy)
        self._app = build(Snapshot(config, secrets), parts, WorkerLifecycle(0, 1))
        self._loop = uvloop.new_event_loop()
        self._devices = [Device.generate() for _ in range(count)]
        server_key = ServerIdentity.from_secrets(secrets).keys["ES256"]
        self._credentials = [_credential(device, server_key) if attested else "" for device in self._devices]
        self._browsers = [WebKey(_ORIGIN) for _ in range(count)] if web else []
        self._creations = [creation_body(device) for device in self._browsers or self._devices]
        self._created: list[bytes] = []
        self._answers: list[bytes] = []

    def create(self) -> None:
        self._created = self._run(self._posts("/challenge", self._creations, self._authorization))

    def sign(self) -> None:
        if self._browsers:
            pairs = zip(self._browsers, self._created, strict=True)
            self._answers = [web_response_body(device, created) for device, created in pairs]
            return
        self._answers = [
            response_body(device, created, credential)
            for device, created, credential in zip(self._devices, self._created, self._credentials, strict=True)
        ]

    def answer(self) -> None:
        self._run(self._posts("/respond", self._answers, []))

    def close(self) -> None:
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def _posts(self, path: str, bodies: Sequence[bytes], headers: Headers) -> list[bytes]:
        return [await self._post(path, body, headers) for body in bodies]

    async def _post(self, path: str, body: bytes, headers: Headers) -> bytes:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await self._app(_scope(path, len(body), headers), receive, send)
        start, *pieces = sent
        answer = b"".join(piece.get("body", b"") for piece in pieces)
        if start["status"] not in {200, 201}:
            raise RuntimeError(f"POST {path}: {start['status']} {answer!r}")
        return answer


def _credential(device: Device, server_key: PrivateKey) -> str:
    """Of an Android phone with a chain of four certificates."""
    serials = ("1", *(bytes([n]).hex() * 16 for n in range(17, 20)))
    facts = Facts(patch=202611, boot="verified", boot_key="ab" * 32, user_auth=True, serials=serials)
    attested = Attested("android-key", "hardware", "direct", f"org.example.sigil:{'0' * 64}", facts)
    return issue(attested, device.public, times(time.time(), _POLICY), server_key, os.urandom(16))


def _scope(path: str, length: int, headers: Headers) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"localhost:8443"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
            *headers,
        ],
        "client": ("192.0.2.7", 40000),
        "server": ("127.0.0.1", 8443),
    }
