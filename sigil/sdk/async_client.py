"""The asynchronous client, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from sigil.protocol.messages.attestation import Level
from sigil.sdk.approval_results import MpaRequest, MpaStatus
from sigil.sdk.audit.votes import verify_votes
from sigil.sdk.base_client import BaseClient, ClientParts
from sigil.sdk.enrolment.begun import Enrolment
from sigil.sdk.enrolment.operations import Until
from sigil.sdk.enrolment.status import EnrolmentStatus
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.http.sans_io import Operation, Outcome, Pause, ResponseReader, Send
from sigil.sdk.results import Action, Challenge, ChallengeStatus

T = TypeVar("T")


class AsyncSigilAuth(BaseClient):
    """`SigilAuth` for asyncio: the same arguments, results and errors. `async with`, or `aclose()` at the end.

    Each event loop has connections of its own, so a client may be used by one `asyncio.run` after another.
    """

    def _open(self, parts: ClientParts) -> None:
        self._parts = parts
        self._http: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self.auth = AsyncAuth(self)
        self.mpa = AsyncMpa(self)
        self.enrolment = AsyncEnrolments(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        own = self._http.pop(_running_loop(), None)
        self._http.clear()
        if own:
            await own.aclose()

    def _own_http(self) -> httpx.AsyncClient:
        """Of the running event loop. Connections of a loop that was closed are dropped; it can no longer close them."""
        loop = _running_loop()
        if loop not in self._http:
            for other in [other for other in list(self._http) if other.is_closed()]:
                self._http.pop(other, None)
            self._http[loop] = httpx.AsyncClient(**self._parts.http.client_options())
        return self._http[loop]

    async def _run(self, operation: Operation[T]) -> T:
        outcome: Outcome | None = None
        while True:
            self._require_open()
            try:
                step = operation.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = await self._execute(step)

    async def _execute(self, step: Send | Pause) -> Outcome | None:
        if isinstance(step, Pause):
            await self._parts.clock.async_sleep(step.seconds)
            return None
        http, own_http = self._parts.http, self._own_http()
        try:
            async with asyncio.timeout(step.seconds), own_http.stream(**http.stream_options(step)) as response:
                reader = ResponseReader(response.status_code, response.headers)
                async for chunk in response.aiter_raw():
                    if not reader.feed(chunk):
                        break
            return http.outcome_of(reader)
        except Exception as error:
            return http.failure_of(error)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        fault = "AsyncSigilAuth needs a running event loop of asyncio; without one, use SigilAuth."
    raise ConfigurationError(fault)


class AsyncAuth:
    """`AsyncSigilAuth.auth`. Every method raises SigilError; `Auth` documents arguments and results."""

    def __init__(self, client: AsyncSigilAuth) -> None:
        self._run, self._challenges = client._run, client._parts.challenges

    async def create_challenge(
        self,
        device_public_key: str,
        action: Action | Mapping[str, Any],
        *,
        expires_in_seconds: int | None = None,
        number_matching: bool | None = None,
        fingerprint: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Challenge:
        """As `Auth.create_challenge`."""
        return await self._run(
            self._challenges.create(
                device_public_key,
                action,
                expires_in_seconds=expires_in_seconds,
                number_matching=number_matching,
                fingerprint=fingerprint,
                idempotency_key=idempotency_key,
                traceparent=traceparent,
            )
        )

    async def get_status(self, challenge_id: str) -> ChallengeStatus:
        """As `Auth.get_status`."""
        return await self._run(self._challenges.status(challenge_id))

    async def await_result(self, challenge_id: str, timeout: float | None = None) -> ChallengeStatus:  # noqa: ASYNC109
        """As `Auth.await_result`. A caller's own `asyncio.timeout` works as well: the challenge stays pending."""
        return await self._run(self._challenges.result(challenge_id, timeout))

    async def cancel(self, challenge_id: str) -> ChallengeStatus:
        """As `Auth.cancel`."""
        return await self._run(self._challenges.cancel(challenge_id))


class AsyncMpa:
    """`AsyncSigilAuth.mpa`. Every method raises SigilError; `Mpa` documents arguments and results."""

    verify_votes = staticmethod(verify_votes)

    def __init__(self, client: AsyncSigilAuth) -> None:
        self._run, self._approvals = client._run, client._parts.approvals

    async def request(
        self,
        action: Action | Mapping[str, Any],
        groups: Sequence[Sequence[str]],
        required: int,
        *,
        request_id: str | None = None,
        reject_policy: str | None = None,
        expires_in_seconds: int | None = None,
        traceparent: str | None = None,
    ) -> MpaRequest:
        """As `Mpa.request`."""
        return await self._run(
            self._approvals.request(
                action,
                groups,
                required,
                request_id=request_id,
                reject_policy=reject_policy,
                expires_in_seconds=expires_in_seconds,
                traceparent=traceparent,
            )
        )

    async def get_status(self, request_id: str) -> MpaStatus:
        """As `Mpa.get_status`."""
        return await self._run(self._approvals.status(request_id))

    async def await_result(self, request_id: str, timeout: float | None = None) -> MpaStatus:  # noqa: ASYNC109
        """As `Mpa.await_result`. A caller's own `asyncio.timeout` works as well: the request stays pending."""
        return await self._run(self._approvals.result(request_id, timeout))

    async def cancel(self, request_id: str) -> MpaStatus:
        """As `Mpa.cancel`."""
        return await self._run(self._approvals.cancel(request_id))


class AsyncEnrolments:
    """`AsyncSigilAuth.enrolment`. Every method raises SigilError; `Enrolments` documents arguments and results."""

    def __init__(self, client: AsyncSigilAuth) -> None:
        self._run, self._enrolments = client._run, client._parts.enrolments

    async def begin(
        self,
        account: str,
        *,
        confirm: Literal["code", "none"] | None = None,
        expires_in_seconds: int | None = None,
        replaces: str | None = None,
        min_level: Level | None = None,
        idempotency_key: str | None = None,
    ) -> Enrolment:
        """As `Enrolments.begin`."""
        return await self._run(
            self._enrolments.begin(
                account,
                confirm=confirm,
                expires_in_seconds=expires_in_seconds,
                replaces=replaces,
                min_level=min_level,
                idempotency_key=idempotency_key,
            )
        )

    async def get_status(self, enrolment_id: str) -> EnrolmentStatus:
        """As `Enrolments.get_status`."""
        return await self._run(self._enrolments.status(enrolment_id))

    async def await_result(
        self,
        enrolment_id: str,
        timeout: float | None = None,  # noqa: ASYNC109
        until: Until = "enrolled",
    ) -> EnrolmentStatus:
        """As `Enrolments.await_result`. A caller's own `asyncio.timeout` works as well: the enrolment stays open."""
        return await self._run(self._enrolments.result(enrolment_id, timeout, until))

    async def confirm(self, enrolment_id: str, code: str) -> EnrolmentStatus:
        """As `Enrolments.confirm`."""
        operation, code = self._enrolments.confirm(enrolment_id, code), ""
        return await self._run(operation)

    async def cancel(self, enrolment_id: str) -> EnrolmentStatus:
        """As `Enrolments.cancel`."""
        return await self._run(self._enrolments.cancel(enrolment_id))
