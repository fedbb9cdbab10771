"""The client's calls about approval requests, as operations without I/O."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sigil.protocol.messages.approvals import REQUEST_ID
from sigil.sdk.approval_results import MpaRequest, MpaStatus
from sigil.sdk.errors import AnswerUnusable, InvalidRequest, NotFound, ResultTimeout
from sigil.sdk.http.clock import Clock
from sigil.sdk.http.polling import Polling
from sigil.sdk.http.responses import parse_result
from sigil.sdk.http.retry import Request, RetryPolicy, send_with_retries
from sigil.sdk.http.sans_io import Operation
from sigil.sdk.http.trace_context import with_traceparent
from sigil.sdk.request_bodies import action_bytes, encoded
from sigil.sdk.results import Action

LONGEST_LIFE = 930.0
"""A request lives 900 s at most. After this time the client stops, even if the server's clock does not move."""
_ID = re.compile(REQUEST_ID, re.ASCII)


@dataclass(frozen=True)
class Approvals:
    retry: RetryPolicy
    clock: Clock

    def request(
        self,
        action: Action | Mapping[str, Any],
        groups: Sequence[Sequence[str]],
        required: int,
        *,
        request_id: str | None,
        reject_policy: str | None,
        expires_in_seconds: int | None,
        traceparent: str | None,
    ) -> Operation[MpaRequest]:
        # One request_id for all retries: when the first response is lost, a retry creates no second request.
        members: dict[str, Any] = {
            "request_id": f"sdk-{secrets.token_hex(16)}" if request_id is None else _check_id(request_id),
            "action": msgspec.Raw(action_bytes(action)),
            "required": required,
            "groups": _groups(groups),
            "reject_policy": reject_policy,
            "expires_in_seconds": expires_in_seconds,
        }
        body = encoded({name: value for name, value in members.items() if value is not None})
        headers = with_traceparent({"Content-Type": "application/json"}, traceparent)
        request = Request("POST", "/mpa/request", body, headers)
        response = yield from send_with_retries(request, self.retry, self.clock)
        return parse_result(response, 200 if response.status == 200 else 201, MpaRequest)

    def status(self, request_id: str) -> Operation[MpaStatus]:
        return self._fetch(request_id, Request("GET", f"/mpa/status/{_path(request_id)}"), self.retry)

    def cancel(self, request_id: str) -> Operation[MpaStatus]:
        return self._fetch(request_id, Request("DELETE", f"/mpa/request/{_path(request_id)}"), self.retry)

    def result(self, request_id: str, timeout: float | None) -> Operation[MpaStatus]:
        """Long polls until the request has ended; ResultTimeout when the caller's timeout ends first."""

        def poll(wait: int, retry: RetryPolicy) -> Operation[MpaStatus]:
            request = Request("GET", f"/mpa/status/{_path(request_id)}?wait={wait}", wait=wait)
            return self._fetch(request_id, request, retry)

        def timeout_error(last: MpaStatus | None, reason: str) -> ResultTimeout:
            error = ResultTimeout(f"The request had no result within the given time.{reason}")
            error.mpa_request_id, error.last = request_id, last
            return error

        seconds = LONGEST_LIFE if timeout is None else timeout
        return Polling(self.retry, self.clock).until_final(poll, seconds, timeout_error)

    def _fetch(self, request_id: str, request: Request, retry: RetryPolicy) -> Operation[MpaStatus]:
        response = yield from send_with_retries(request, retry, self.clock)
        status = parse_result(response, 200, MpaStatus)
        if status.request_id != request_id:
            # A cache that mixes up responses would approve one action with the approval of another.
            raise AnswerUnusable("The server responded about another request.", status=response.status)
        return status


def _groups(groups: Sequence[Sequence[str]]) -> list[dict[str, list[dict[str, str]]]]:
    """InvalidRequest for a string in place of a list of keys: its characters would be taken for keys."""
    texts = str | bytes
    if not (_is_iterable(groups, texts) and all(_is_iterable(group, texts) for group in groups)):
        message = "groups must be a list of lists of device_public_key."
        raise InvalidRequest(message, details={"path": "$.groups"})
    return [{"members": [{"device_public_key": str(key)} for key in group]} for group in groups]


def _is_iterable(value: object, texts: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, texts)


def _check_id(request_id: str) -> str:
    if not (isinstance(request_id, str) and _ID.match(request_id)):
        message = "A request_id must be 1 to 128 of A-Z a-z 0-9 . _ : -, and neither '.' nor '..'."
        raise InvalidRequest(message, details={"path": "$.request_id"})
    return request_id


def _path(request_id: str) -> str:
    """NotFound for a malformed id: it may come from a form, and must not reach another address of the server."""
    if not (isinstance(request_id, str) and _ID.match(request_id)):
        raise NotFound("That is not the id of a request.", code="MPA_NOT_FOUND")
    return request_id
