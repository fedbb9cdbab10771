"""Requests of the load: each is sent until it has a response that its caller expects, and every error is recorded.

Only errors that a client may retry are retried: a connection that ends, a time-out, 429 and 503 in the form of the
protocol. Any other response that the caller does not expect is a violation.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import msgspec

from loadtest.soak.ledger import Violation

PATIENCE_SECONDS = 300.0
"""A request that no response ends within this time is a violation: the server did not recover."""
_RESPONSE_SECONDS = 30.0
_RETRYABLE = {429: {"RATE_LIMITED", "TOO_MANY_PENDING"}, 503: {"OVERLOADED"}}
# Longer than it takes to reuse a connection, shorter than the 10 s after which the server closes an idle one.
_IDLE_SECONDS = 5.0


class Failure(NamedTuple):
    """A request that was sent at `began` and failed at `at`; `what` is the class of the error, or status and code."""

    began: float
    at: float
    what: str


class Response(NamedTuple):
    """`began` and `at` are the times of the attempt that succeeded; `raw` is the body, and `json` its content."""

    status: int
    json: Any
    raw: bytes
    headers: httpx.Headers
    began: float
    at: float


@dataclass
class Record:
    """What happened to all requests."""

    failures: list[Failure] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    retries: int = 0
    successes: Counter[str] = field(default_factory=Counter)
    longest_silence: float = 0.0
    _last_success: float = 0.0

    def begin(self, at: float) -> None:
        self._last_success = at

    def success(self, what: str, at: float) -> None:
        self.successes[what] += 1
        if self._last_success:
            self.longest_silence = max(self.longest_silence, at - self._last_success)
            self._last_success = max(at, self._last_success)


class Api:
    """A client with a source address of its own: the server limits connections and failures per address."""

    def __init__(self, url: str, tls: ssl.SSLContext, address: str, record: Record, api_key: str | None = None) -> None:
        self._record = record
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_RESPONSE_SECONDS,
            transport=httpx.AsyncHTTPTransport(
                verify=tls, local_address=address, limits=httpx.Limits(keepalive_expiry=_IDLE_SECONDS)
            ),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        expect: frozenset[int] = frozenset({200}),
        patience: float = PATIENCE_SECONDS,
    ) -> Response | None:
        """The response, of a status in `expect`; None after a violation, which is recorded.

        Every attempt sends the same bytes.
        """
        content = {"Content-Type": "application/json"} if body is not None else {}
        give_up, pause = time.time() + patience, 0.1
        while True:
            began = time.time()
            try:
                answer = await self._http.request(method, path, content=body, headers={**content, **(headers or {})})
            except httpx.TransportError as error:
                failure = describe(error)
                if failure is None:
                    return self._violation(what, f"no HTTP response: {error}")
            else:
                if answer.status_code in expect:
                    self._record.success(what, time.time())
                    return _response(answer, began)
                code = error_code(answer)
                if code not in _RETRYABLE.get(answer.status_code, ()):
                    return self._violation(
                        what, f"{answer.status_code} {answer.text[:300]} after {time.time() - began:.1f} s"
                    )
                failure = f"{answer.status_code} {code}"
                if "retry-after" in answer.headers:
                    pause = max(pause, min(float(answer.headers["retry-after"]), 10.0))
            self._record.failures.append(Failure(began, time.time(), failure))
            if time.time() > give_up:
                return self._violation(what, f"no success in {patience:.0f} s; the last error was {failure}")
            self._record.retries += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, 2.0)

    def _violation(self, what: str, text: str) -> None:
        self._record.violations.append(Violation("unexpected response", what, text))


def describe(error: httpx.TransportError) -> str | None:
    """The class of an error that a killed, stopped or restarted server may cause; None for a malformed response."""
    if isinstance(error, httpx.RemoteProtocolError) and not ("disconnected" in str(error) or "closed" in str(error)):
        return None
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return None
    return type(error).__name__


def error_code(answer: httpx.Response) -> str:
    """The code of an error of the protocol (section 4); empty for any other body."""
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _response(answer: httpx.Response, began: float) -> Response:
    parsed = msgspec.json.decode(answer.content) if answer.content else None
    return Response(answer.status_code, parsed, answer.content, answer.headers, began, time.time())
