"""The requests of a device over HTTP, with every phase bounded in time and every answer in size."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

import httpx
import msgspec

from sigil import __version__
from sigil.device.errors import AnswerUnusable, ServerRefused, Unreachable
from sigil.device.http.origin import base_url as normalised
from sigil.device.http.tls import TlsTrust, verification
from sigil.protocol.approval_messages import MpaResponded
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import ErrorAnswer, Responded, decode

T = TypeVar("T")

PHASE_SECONDS = 10.0
"""Connecting, writing, each read, and waiting for a connection."""
ANSWER_SECONDS = 30.0
"""A whole answer: a server that sends a byte now and then would otherwise hold the device for ever."""
MAX_ANSWER_BYTES = 1 << 20
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z", re.ASCII)
HEADERS = {
    "Accept": "application/json",
    # Uncompressed, and read as it comes: the limit would not hold for what a small body unpacks to.
    "Accept-Encoding": "identity",
    "User-Agent": f"sigil-device/{__version__}",
}


class PendingAnswer(msgspec.Struct, frozen=True):
    """200 of `POST /device/pending`, its payloads unread: one bad payload must not hide the others."""

    challenges: list[msgspec.Raw]
    mpa: list[msgspec.Raw] = []


class ServerConnection:
    """HTTP to one server. Raises Unreachable, AnswerUnusable and ServerRefused; follows no redirect.

    Takes nothing from the environment: a proxy or certificate variable is no reason to trust someone.
    """

    def __init__(
        self,
        base_url: str,
        tls: TlsTrust | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base_url, self._monotonic = normalised(base_url), monotonic
        self._http = httpx.Client(
            base_url=self._base_url,
            verify=verification(self._base_url, tls or TlsTrust()),
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(PHASE_SECONDS),
            headers=HEADERS,
        )

    def __enter__(self) -> ServerConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def info(self) -> bytes:
        """The body of `GET /info`, for `verify_info`."""
        return self._ask("GET", "/info")

    def pending(self, body: Mapping[str, str]) -> PendingAnswer:
        return understood(self._ask("POST", "/device/pending", body), PendingAnswer)

    def respond(self, body: Mapping[str, str]) -> Responded:
        return understood(self._ask("POST", "/respond", body), Responded)

    def vote(self, body: Mapping[str, str]) -> MpaResponded:
        return understood(self._ask("POST", "/mpa/respond", body), MpaResponded)

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> bytes:
        try:
            with self._http.stream(method, path, json=body) as response:
                content = self._read(response)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self._base_url} cannot be reached: {reason}") from error
        if response.status_code != 200:
            raise refusal(response.status_code, content)
        return content

    def _read(self, response: httpx.Response) -> bytes:
        content, end = bytearray(), self._monotonic() + ANSWER_SECONDS
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise AnswerUnusable(f"The server's answer is larger than {MAX_ANSWER_BYTES} bytes.")
            if self._monotonic() > end:
                raise Unreachable(f"The server's answer took longer than {ANSWER_SECONDS:.0f} s.")
        return bytes(content)


def understood(content: bytes, kind: type[T]) -> T:
    """AnswerUnusable when it is not of that form."""
    try:
        return decode(content, kind)
    except InvalidRequest as error:
        raise AnswerUnusable(f"{AnswerUnusable.summary} {error.message} ({error.details['path']})") from error


def refusal(status: int, content: bytes) -> ServerRefused:
    try:
        error = decode(content, ErrorAnswer).error
    except InvalidRequest:
        return ServerRefused(status, f"HTTP_{status}", f"The server answered {status} without an error of its own.")
    code = error.code if _CODE.match(error.code) else f"HTTP_{status}"
    return ServerRefused(status, code, error.message)
