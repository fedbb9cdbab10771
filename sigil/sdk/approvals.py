"""What a client can do with multi-party requests, as conversations."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sigil.protocol.approval_messages import REQUEST_ID
from sigil.sdk.approval_results import MpaRequest, MpaStatus
from sigil.sdk.clock import Clock
from sigil.sdk.errors import AnswerUnusable, InvalidRequest, NotFound, ResultTimeout
from sigil.sdk.polling import Polling
from sigil.sdk.request_bodies import action_bytes
from sigil.sdk.responses import result
from sigil.sdk.results import Action
from sigil.sdk.retry import Request, RetryPolicy, ask
from sigil.sdk.sans_io import Operation

LONGEST_LIFE = 930.0
"""A request lives 900 s at most; after this even a server whose clock stands still is not waited for."""
_ID = re.compile(REQUEST_ID, re.ASCII)


@dataclass(frozen=True)
class Approvals:
    patience: RetryPolicy
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
    ) -> Operation[MpaRequest]:
        # A name of our own, so that a retry whose first answer got lost asks nobody twice.
        members: dict[str, Any] = {
            "request_id": f"sdk-{secrets.token_hex(16)}" if request_id is None else _checked(request_id),
            "action": msgspec.Raw(action_bytes(action)),
            "required": required,
            "groups": _groups(groups),
            "reject_policy": reject_policy,
            "expires_in_seconds": expires_in_seconds,
        }
        body = msgspec.json.encode({name: value for name, value in members.items() if value is not None})
        headers = {"Content-Type": "application/json"}
        reply = yield from ask(Request("POST", "/mpa/request", body, headers), self.patience, self.clock)
        return result(reply, 200 if reply.status == 200 else 201, MpaRequest)

    def status(self, request_id: str) -> Operation[MpaStatus]:
        return self._one(request_id, Request("GET", f"/mpa/status/{_found(request_id)}"), self.patience)

    def cancel(self, request_id: str) -> Operation[MpaStatus]:
        return self._one(request_id, Request("DELETE", f"/mpa/request/{_found(request_id)}"), self.patience)

    def result(self, request_id: str, timeout: float | None) -> Operation[MpaStatus]:
        """Long polls until the request has ended; ResultTimeout when the caller's time is over first."""

        def look(wait: int, patience: RetryPolicy) -> Operation[MpaStatus]:
            request = Request("GET", f"/mpa/status/{_found(request_id)}?wait={wait}", wait=wait)
            return self._one(request_id, request, patience)

        def late(last: MpaStatus | None, more: str) -> ResultTimeout:
            error = ResultTimeout(f"The request had no result within the given time.{more}")
            error.mpa_request_id, error.last = request_id, last
            return error

        return Polling(self.patience, self.clock).until_final(look, LONGEST_LIFE if timeout is None else timeout, late)

    def _one(self, request_id: str, request: Request, patience: RetryPolicy) -> Operation[MpaStatus]:
        reply = yield from ask(request, patience, self.clock)
        status = result(reply, 200, MpaStatus)
        if status.request_id != request_id:
            # A cache that mixes answers up would approve one thing with the approval of another.
            raise AnswerUnusable("The server answered about another request.", status=reply.status)
        return status


def _groups(groups: Sequence[Sequence[str]]) -> list[dict[str, list[dict[str, str]]]]:
    """InvalidRequest for a text where a list of keys is due: its letters would be taken for keys."""
    if isinstance(groups, str) or any(isinstance(group, str) for group in groups):
        told = "groups is a list of lists of device_public_key."
        raise InvalidRequest(told, details={"path": "$.groups"})
    return [{"members": [{"device_public_key": str(key)} for key in group]} for group in groups]


def _checked(request_id: str) -> str:
    if not _ID.match(request_id):
        told = "A request_id is 1 to 128 of A-Z a-z 0-9 . _ : -, and neither '.' nor '..'."
        raise InvalidRequest(told, details={"path": "$.request_id"})
    return request_id


def _found(request_id: str) -> str:
    """NotFound for what is no id: it may come from a form, and must not reach another address of the server."""
    if not _ID.match(request_id):
        raise NotFound("That is not the id of a request.", code="MPA_NOT_FOUND")
    return request_id
