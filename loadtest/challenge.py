"""Locust scenario "challenge": create, answer, status. `loadtest.load` runs it, with its settings in the environment.

Each user is a device of its own on one connection, and does one request after the other. A challenge that does not
come out as verified, or an answer that is not what docs/protocol.md says, is a failure.
"""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from locust import FastHttpUser, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner

from loadtest.approvals import answer, approval, creation
from loadtest.outcome import Entry, Fault, Outcome, Settings, Timed
from sigil.device import Device
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import ChallengeCreated, ChallengeStatus, Health, Responded, decode

T = TypeVar("T")

_SETTINGS = msgspec.json.decode(os.environ["SIGIL_LOAD"], type=Settings)
_JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_AUTHORISED = {**_JSON, "Authorization": f"Bearer {os.environ['SIGIL_API_KEY']}"}
_TLS = ssl.create_default_context(cafile=_SETTINGS.ca)
_PAUSE_SECONDS = 1.0
"""After a failure: a server that is gone would be asked thousands of times a second."""
_TIMED = 16
"""One signature in so many: asking for CPU time costs a fifth of a signature."""


class _Run:
    """Of this process, until it is told to the master, which adds up."""

    end = float("inf")
    signatures = 0
    timed = Timed()


class Failed(Exception):
    """Told to Locust already; this challenge is over."""


class ChallengeUser(FastHttpUser):
    # With True, which is the default, geventhttpclient takes check_hostname out of the context below.
    insecure = False
    # It is called with the public authorities as `cafile`, and adds them itself where that is refused.
    ssl_context_factory = staticmethod(lambda cafile: _TLS)
    network_timeout = connection_timeout = 10.0
    max_redirects = 0  # None is expected, and its status says enough.
    concurrency = 1

    def on_start(self) -> None:
        self.device = Device.generate(_SETTINGS.suite)
        self.creation = creation(self.device)
        # The server sets no cookies; looking for them costs.
        self.client.client.cookiejar = None
        try:
            self.ask("connect", "/health", 200, Health)
        except Failed:
            time.sleep(_PAUSE_SECONDS)

    @task
    def challenge(self) -> None:
        if time.monotonic() > _Run.end:
            raise StopUser
        since = time.perf_counter()
        try:
            self.complete()
        except Failed:
            time.sleep(_PAUSE_SECONDS)
            return
        took = (time.perf_counter() - since) * 1000
        self.environment.events.request.fire(
            request_type="challenge", name="complete", response_time=took, response_length=0, exception=None, context={}
        )

    def complete(self) -> None:
        mine = self.device.fingerprint
        created = self.ask("create", "/challenge", 201, ChallengeCreated, self.creation, fingerprint=mine)
        body = answer(self.device, created, self.sign(created))
        self.ask("answer", "/respond", 200, Responded, body, status="verified", verified=True, fingerprint=mine)
        asked = created.challenge_id
        told = {"status": "verified", "decision": "approved", "fingerprint": mine, "challenge_id": asked}
        self.ask("status", f"/v1/auth/challenge/{asked}/status", 200, ChallengeStatus, **told)

    def sign(self, created: ChallengeCreated) -> bytes:
        _Run.signatures += 1
        if _Run.signatures % _TIMED:
            return approval(self.device, created)
        since = time.thread_time()
        signature = approval(self.device, created)
        _Run.timed = _Run.timed + Timed(1, time.thread_time() - since)
        return signature

    def ask(self, name: str, path: str, code: int, kind: type[T], body: bytes | None = None, **expected: Any) -> T:
        """The answer, which has that status, that form and those members; Failed otherwise."""
        headers = _JSON if name == "answer" else _AUTHORISED
        method = "POST" if body else "GET"
        with self.client.request(method, path, name=name, data=body, headers=headers, catch_response=True) as response:
            if response.status_code == code:
                try:
                    message = decode(response.content, kind)
                except InvalidRequest as error:
                    response.failure(f"not a {kind.__name__}: {error.message} ({error.details['path']})")
                    raise Failed from error
                wrong = [member for member, value in expected.items() if getattr(message, member) != value]
                if not wrong:
                    return message
                response.failure(f"wrong {', '.join(wrong)}")
            elif response.status_code:
                response.failure(f"status {response.status_code} in place of {code}")
            # Without a status there was no answer, and Locust knows why.
        raise Failed


@events.test_start.add_listener
def _begin(**_: Any) -> None:
    _Run.end = time.monotonic() + _SETTINGS.seconds


@events.report_to_master.add_listener
def _tell(data: dict[str, Any], **_: Any) -> None:
    data["timed"], _Run.timed = (_Run.timed.count, _Run.timed.seconds), Timed()


@events.worker_report.add_listener
def _hear(data: dict[str, Any], **_: Any) -> None:
    _Run.timed = _Run.timed + Timed(*data["timed"])


@events.quitting.add_listener
def _write(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner):
        return
    entries = [
        Entry(e.name, e.num_requests, e.num_failures, dict(e.response_times), dict(e.num_reqs_per_sec))
        for e in environment.stats.entries.values()
    ]
    faults = [Fault(e.to_name(), e.occurrences) for e in environment.stats.errors.values()]
    faults += [Fault(f"Locust: {e['msg']}", e["count"]) for e in environment.runner.exceptions.values()]
    outcome = Outcome(entries, faults, _Run.timed)
    Path(_SETTINGS.outcome).write_bytes(msgspec.json.encode(outcome))
