"""HTTP of a device without blocking the event loop, with the limits of `connection`, for any number of devices."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from sigil.device.errors import Peer
from sigil.device.http.exchange import (
    FAILURES,
    PHASE_SECONDS,
    RESPONSE_SECONDS,
    PendingResponse,
    ResponseBody,
    client_options,
    decode_response,
    too_slow,
)
from sigil.device.http.failures import unreachable
from sigil.device.http.origin import base_url as normalised
from sigil.device.http.tls import TlsTrust, verification
from sigil.protocol.messages.approvals import MpaResponded
from sigil.protocol.messages.attestation import AttestChallenge, DeviceAttested
from sigil.protocol.messages.challenges import Responded
from sigil.protocol.messages.enrolment import EnrolmentCompleted, EnrolmentOffered, EnrolmentWaited

_Self = TypeVar("_Self", bound="AsyncHttp")


class AsyncHttp:
    """Requests to one origin. Raises Unreachable, AnswerUnusable and ServerRefused; follows no redirect.

    `local_address` is the address of this machine that connections come from, and `peer` names
    the other side in errors.
    """

    def __init__(
        self,
        origin: str,
        tls: TlsTrust | None = None,
        *,
        local_address: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        response_seconds: float = RESPONSE_SECONDS,
        peer: Peer = "server",
    ) -> None:
        self.origin, self._response_seconds, self._peer = origin, response_seconds, peer
        self._http = httpx.AsyncClient(
            transport=transport
            or httpx.AsyncHTTPTransport(
                verify=verification(origin, tls or TlsTrust()), trust_env=False, local_address=local_address
            ),
            **client_options(origin),
        )

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, expected: int = 200, wait: float = 0
    ) -> bytes:
        """The body of a response with the status `expected`, for which the server may take `wait` seconds longer."""
        content = ResponseBody()
        timeout = httpx.Timeout(PHASE_SECONDS, read=PHASE_SECONDS + wait)
        try:
            async with (
                asyncio.timeout(self._response_seconds + wait),
                self._http.stream(method, path, json=body, timeout=timeout) as response,
            ):
                async for chunk in response.aiter_raw():
                    content.feed(chunk)
        except TimeoutError as error:
            raise too_slow(self.origin, self._response_seconds) from error
        except FAILURES as error:
            raise unreachable(self.origin, error, self._peer) from error
        return content.with_status(response.status_code, expected)


class AsyncServerConnection(AsyncHttp):
    """`ServerConnection`, asynchronous."""

    def __init__(
        self,
        base_url: str,
        tls: TlsTrust | None = None,
        *,
        local_address: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        super().__init__(
            normalised(base_url),
            tls,
            local_address=local_address,
            transport=transport,
            response_seconds=response_seconds,
        )

    async def info(self) -> bytes:
        return await self.request("GET", "/info")

    async def pending(self, body: Mapping[str, str]) -> PendingResponse:
        return decode_response(await self.request("POST", "/device/pending", body), PendingResponse)

    async def respond(self, body: Mapping[str, str]) -> Responded:
        return decode_response(await self.request("POST", "/respond", body), Responded)

    async def vote(self, body: Mapping[str, str]) -> MpaResponded:
        return decode_response(await self.request("POST", "/mpa/respond", body), MpaResponded)

    async def claim_enrolment(self, body: Mapping[str, str]) -> EnrolmentOffered:
        return decode_response(await self.request("POST", "/enrolment/claim", body), EnrolmentOffered)

    async def complete_enrolment(self, body: Mapping[str, Any]) -> EnrolmentCompleted:
        return decode_response(await self.request("POST", "/enrolment/complete", body), EnrolmentCompleted)

    async def wait_for_enrolment(self, body: Mapping[str, Any]) -> EnrolmentWaited:
        """The server may take the `wait` seconds of the body."""
        answer = await self.request("POST", "/enrolment/wait", body, wait=body["wait"])
        return decode_response(answer, EnrolmentWaited)

    async def attest_challenge(self) -> AttestChallenge:
        return decode_response(await self.request("GET", "/device/attest/challenge"), AttestChallenge)

    async def attest(self, body: Mapping[str, Any]) -> DeviceAttested:
        return decode_response(await self.request("POST", "/device/attest", body), DeviceAttested)
