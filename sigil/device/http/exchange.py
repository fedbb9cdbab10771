"""The parts of an HTTP exchange that both connections share: limits, options of httpx, decoding and errors."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import httpx
import msgspec

from sigil import __version__
from sigil.device.errors import AnswerUnusable, ServerRefused, Unreachable
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.decoding import decode
from sigil.protocol.messages.server import ErrorAnswer

T = TypeVar("T")

PHASE_SECONDS = 10.0
"""Connecting, writing, each read, and waiting for a connection."""
RESPONSE_SECONDS = 30.0
"""A complete response: a server that sends a byte now and then would otherwise hold the device for ever."""
MAX_RESPONSE_BYTES = 1 << 20
HEADERS = {
    "Accept": "application/json",
    # Uncompressed, and read in chunks: the size limit would not hold for the unpacked content of a small body.
    "Accept-Encoding": "identity",
    "User-Agent": f"sigil-device/{__version__}",
}
FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z", re.ASCII)


class PendingResponse(msgspec.Struct, frozen=True):
    """200 of `POST /device/pending`, its payloads not decoded: one malformed payload must not hide the others."""

    challenges: list[msgspec.Raw]
    mpa: list[msgspec.Raw] = []


class ResponseBody:
    """Collects a body chunk by chunk; AnswerUnusable beyond MAX_RESPONSE_BYTES."""

    def __init__(self) -> None:
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._content += chunk
        if len(self._content) > MAX_RESPONSE_BYTES:
            raise AnswerUnusable(f"The server's response is larger than {MAX_RESPONSE_BYTES} bytes.")

    def with_status(self, status: int, expected: int) -> bytes:
        """The whole body; ServerRefused for another status than `expected`."""
        content = bytes(self._content)
        if status != expected:
            raise server_error(status, content)
        return content


def client_options(origin: str) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient. The environment's proxy and certificates are not trusted."""
    return {
        "base_url": origin,
        "trust_env": False,
        "follow_redirects": False,
        "timeout": httpx.Timeout(PHASE_SECONDS),
        "headers": HEADERS,
    }


def too_slow(origin: str, seconds: float) -> Unreachable:
    return Unreachable(f"The response of {origin} took longer than {seconds:.0f} s.")


def decode_response(content: bytes, kind: type[T]) -> T:
    """AnswerUnusable when it is not of that form."""
    try:
        return decode(content, kind)
    except InvalidRequest as error:
        raise AnswerUnusable(f"{AnswerUnusable.summary} {error.message} ({error.details['path']})") from error


def server_error(status: int, content: bytes) -> ServerRefused:
    try:
        error = decode(content, ErrorAnswer).error
    except InvalidRequest:
        message = f"The server responded with {status} and no error of the protocol."
        return ServerRefused(status, f"HTTP_{status}", message)
    code = error.code if _CODE.match(error.code) else f"HTTP_{status}"
    return ServerRefused(status, code, error.message, error.details)
