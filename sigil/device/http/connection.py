"""The requests of a device over HTTP, with every phase bounded in time and every response in size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import httpx

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


class ServerConnection:
    """HTTP to one server. Raises Unreachable, AnswerUnusable and ServerRefused; follows no redirect."""

    def __init__(
        self,
        base_url: str,
        tls: TlsTrust | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        self._base_url, self._monotonic, self._response_seconds = normalised(base_url), monotonic, response_seconds
        self._http = httpx.Client(
            verify=verification(self._base_url, tls or TlsTrust()),
            transport=transport,
            **client_options(self._base_url),
        )

    def __enter__(self) -> ServerConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def info(self) -> bytes:
        """The body of `GET /info`, for `verify_info`."""
        return self._request("GET", "/info")

    def pending(self, body: Mapping[str, str]) -> PendingResponse:
        return decode_response(self._request("POST", "/device/pending", body), PendingResponse)

    def respond(self, body: Mapping[str, str]) -> Responded:
        return decode_response(self._request("POST", "/respond", body), Responded)

    def vote(self, body: Mapping[str, str]) -> MpaResponded:
        return decode_response(self._request("POST", "/mpa/respond", body), MpaResponded)

    def claim_enrolment(self, body: Mapping[str, str]) -> EnrolmentOffered:
        return decode_response(self._request("POST", "/enrolment/claim", body), EnrolmentOffered)

    def complete_enrolment(self, body: Mapping[str, Any]) -> EnrolmentCompleted:
        return decode_response(self._request("POST", "/enrolment/complete", body), EnrolmentCompleted)

    def wait_for_enrolment(self, body: Mapping[str, Any]) -> EnrolmentWaited:
        """The server may take the `wait` seconds of the body."""
        return decode_response(self._request("POST", "/enrolment/wait", body, wait=body["wait"]), EnrolmentWaited)

    def attest_challenge(self) -> AttestChallenge:
        return decode_response(self._request("GET", "/device/attest/challenge"), AttestChallenge)

    def attest(self, body: Mapping[str, Any]) -> DeviceAttested:
        return decode_response(self._request("POST", "/device/attest", body), DeviceAttested)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, wait: float = 0) -> bytes:
        content = ResponseBody()
        timeout = httpx.Timeout(PHASE_SECONDS, read=PHASE_SECONDS + wait)
        try:
            with self._http.stream(method, path, json=body, timeout=timeout) as response:
                self._read(response, content)
        except FAILURES as error:
            raise unreachable(self._base_url, error) from error
        return content.with_status(response.status_code, 200)

    def _read(self, response: httpx.Response, content: ResponseBody) -> None:
        end = self._monotonic() + self._response_seconds
        for chunk in response.iter_raw():
            content.feed(chunk)
            if self._monotonic() > end:
                raise too_slow(self._base_url, self._response_seconds)
