"""HTTP of a device without blocking the event loop, bounded as in `wire`; one object serves any number of devices."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import TypeVar

import httpx

from sigil.device.errors import AnswerUnusable, Unreachable
from sigil.device.http.connection import (
    ANSWER_SECONDS,
    HEADERS,
    MAX_ANSWER_BYTES,
    PHASE_SECONDS,
    PendingAnswer,
    refusal,
    understood,
)
from sigil.device.http.origin import base_url as normalised
from sigil.device.http.tls import TlsTrust, verification
from sigil.protocol.approval_messages import MpaResponded
from sigil.protocol.messages import Responded

_Self = TypeVar("_Self", bound="AsyncHttp")


class AsyncHttp:
    """Requests to one origin. Raises Unreachable, AnswerUnusable and ServerRefused; follows no redirect.

    `local_address` is the address of this machine that connections come from.
    """

    def __init__(
        self,
        origin: str,
        tls: TlsTrust | None = None,
        *,
        local_address: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.origin = origin
        self._http = httpx.AsyncClient(
            base_url=origin,
            transport=transport
            or httpx.AsyncHTTPTransport(
                verify=verification(origin, tls or TlsTrust()), trust_env=False, local_address=local_address
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(PHASE_SECONDS),
            headers=HEADERS,
        )

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Mapping[str, str] | None = None, *, good: int = 200) -> bytes:
        """The body of an answer with status `good`."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._http.stream(method, path, json=body) as response:
                content = await _read(response)
        except TimeoutError as error:
            raise Unreachable(f"The answer of {self.origin} took longer than {ANSWER_SECONDS:.0f} s.") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self.origin} cannot be reached: {reason}") from error
        if response.status_code != good:
            raise refusal(response.status_code, content)
        return content


class AsyncServerConnection(AsyncHttp):
    """`ServerConnection`, asynchronous."""

    def __init__(
        self,
        base_url: str,
        tls: TlsTrust | None = None,
        *,
        local_address: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(normalised(base_url), tls, local_address=local_address, transport=transport)

    async def info(self) -> bytes:
        return await self.ask("GET", "/info")

    async def pending(self, body: Mapping[str, str]) -> PendingAnswer:
        return understood(await self.ask("POST", "/device/pending", body), PendingAnswer)

    async def respond(self, body: Mapping[str, str]) -> Responded:
        return understood(await self.ask("POST", "/respond", body), Responded)

    async def vote(self, body: Mapping[str, str]) -> MpaResponded:
        return understood(await self.ask("POST", "/mpa/respond", body), MpaResponded)


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AnswerUnusable(f"The answer is larger than {MAX_ANSWER_BYTES} bytes.")
    return bytes(content)
