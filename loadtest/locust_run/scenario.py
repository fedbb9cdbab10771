"""Locust scenario "challenge": create, answer, status. `loadtest.load` runs it, with its settings in the environment.

Each user is a device with its own key on one connection, and sends one request after the other. A challenge that does
not end as verified, or a response that differs from docs/protocol.md, is a failure.
"""

from __future__ import annotations

import os
import ssl
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import gevent
import msgspec
from locust import FastHttpUser, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner

from loadtest.approvals import creation_body, response_body, sign_approval
from loadtest.locust_run.outcome import Entry, Fault, Outcome, Settings, Timed, live
from sigil.device import Device
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.challenges import ChallengeCreated, ChallengeStatus, Responded
from sigil.protocol.messages.decoding import decode
from sigil.protocol.messages.server import Health

T = TypeVar("T")

_SETTINGS = msgspec.json.decode(os.environ["SIGIL_LOAD"], type=Settings)
_JSON = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_AUTHORISED = {**_JSON, "Authorization": f"Bearer {os.environ['SIGIL_API_KEY']}"}
_TLS = ssl.create_default_context(cafile=_SETTINGS.ca)
_PAUSE_SECONDS = 1.0
"""After a failure. Without it, a server that has stopped would get thousands of requests a second."""
_TIMED = 16
"""One signature in 16 is timed: reading the CPU time costs a fifth of a signature."""


class _Run:
    """The state of this process, until it is reported to the master, which adds it up."""

    end = float("inf")
    signatures = 0
    timed = Timed()
    latency: ClassVar[defaultdict[int, Counter[int]]] = defaultdict(Counter)


class Failed(Exception):
    """The failure is already recorded by Locust; this challenge ends."""


class ChallengeUser(FastHttpUser):
    # With True, the default, geventhttpclient turns check_hostname off in the context below.
    insecure = False
    # Locust calls it with the public authorities as `cafile`; without that parameter it would add them itself.
    ssl_context_factory = staticmethod(lambda cafile: _TLS)
    network_timeout = connection_timeout = 10.0
    max_redirects = 0  # No redirect is expected; its status is the error.
    concurrency = 1

    def on_start(self) -> None:
        self.device = Device.generate(_SETTINGS.suite)
        self.creation = creation_body(self.device)
        # The server sets no cookies; parsing them costs time.
        self.client.client.cookiejar = None
        try:
            self.request("connect", "/health", 200, Health)
        except Failed:
            time.sleep(_PAUSE_SECONDS)

    @task
    def challenge(self) -> None:
        if time.monotonic() > _Run.end:
            raise StopUser
        began = time.perf_counter()
        try:
            self.complete()
        except Failed:
            time.sleep(_PAUSE_SECONDS)
            return
        milliseconds = (time.perf_counter() - began) * 1000
        _Run.latency[int(time.time())][round(milliseconds)] += 1
        self.environment.events.request.fire(
            request_type="challenge",
            name="complete",
            response_time=milliseconds,
            response_length=0,
            exception=None,
            context={},
        )

    def complete(self) -> None:
        fingerprint = self.device.fingerprint
        created = self.request("create", "/challenge", 201, ChallengeCreated, self.creation, fingerprint=fingerprint)
        body = response_body(self.device, created, self.sign(created))
        self.request(
            "answer", "/respond", 200, Responded, body, status="verified", verified=True, fingerprint=fingerprint
        )
        challenge_id = created.challenge_id
        expected = {
            "status": "verified",
            "decision": "approved",
            "fingerprint": fingerprint,
            "challenge_id": challenge_id,
        }
        self.request("status", f"/v1/auth/challenge/{challenge_id}/status", 200, ChallengeStatus, **expected)

    def sign(self, created: ChallengeCreated) -> bytes:
        _Run.signatures += 1
        if _Run.signatures % _TIMED:
            return sign_approval(self.device, created)
        began = time.thread_time()
        signature = sign_approval(self.device, created)
        _Run.timed = _Run.timed + Timed(1, time.thread_time() - began)
        return signature

    def request(self, name: str, path: str, code: int, kind: type[T], body: bytes | None = None, **expected: Any) -> T:
        """The response, with this status, this form and these members; Failed otherwise."""
        headers = _JSON if name == "answer" else _AUTHORISED
        method = "POST" if body else "GET"
        with self.client.request(method, path, name=name, data=body, headers=headers, catch_response=True) as response:
            if response.status_code == code:
                try:
                    message = decode(response.content, kind)
                except InvalidRequest as error:
                    response.failure(f"not a {kind.__name__}: {error.message} ({error.details['path']})")
                    raise Failed from error
                mismatches = [member for member, value in expected.items() if getattr(message, member) != value]
                if not mismatches:
                    return message
                response.failure(f"wrong {', '.join(mismatches)}")
            elif response.status_code:
                response.failure(f"status {response.status_code} instead of {code}")
            # Without a status there was no response, and Locust recorded the reason.
        raise Failed


@events.test_start.add_listener
def _start_clock(**_: Any) -> None:
    _Run.end = time.monotonic() + _SETTINGS.seconds


@events.report_to_master.add_listener
def _report_to_master(data: dict[str, Any], **_: Any) -> None:
    data["timed"], _Run.timed = (_Run.timed.count, _Run.timed.seconds), Timed()
    data["latency"], _Run.latency = {at: dict(times) for at, times in _Run.latency.items()}, defaultdict(Counter)


@events.worker_report.add_listener
def _add_from_worker(data: dict[str, Any], **_: Any) -> None:
    _Run.timed = _Run.timed + Timed(*data["timed"])
    for at, times in data["latency"].items():
        _Run.latency[at].update(times)


@events.init.add_listener
def _write_live_figures(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, MasterRunner):
        gevent.spawn(_live_figures, environment)


def _live_figures(environment: Any) -> None:
    file = Path(_SETTINGS.live)
    while True:
        figures = live(_Run.latency, environment.stats.total.num_failures)
        if figures is not None:
            new = file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(figures))
            new.replace(file)
        gevent.sleep(1)


@events.quitting.add_listener
def _write_outcome(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner):
        return
    entries = [
        Entry(e.name, e.num_requests, e.num_failures, dict(e.response_times), dict(e.num_reqs_per_sec))
        for e in environment.stats.entries.values()
    ]
    faults = [Fault(e.to_name(), e.occurrences) for e in environment.stats.errors.values()]
    faults += [Fault(f"Locust: {e['msg']}", e["count"]) for e in environment.runner.exceptions.values()]
    outcome = Outcome(entries, faults, _Run.timed, {at: dict(times) for at, times in _Run.latency.items()})
    Path(_SETTINGS.outcome).write_bytes(msgspec.json.encode(outcome))
