"""Admits pushes, seals them, starts their delivery, and answers queries about their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from relay.pushes.dispatch import Dispatch
from relay.pushes.server_shares import ServerShares
from relay.registry.model import AdmissionResult, AttemptOutcome, NewPush, Push
from relay.registry.port import PushQueue
from relay.registry.rules import Rate
from relay.registry.sealing import Sealer
from sigil.protocol import trace_context
from sigil.protocol.encoding.text import decode_hex, parse_time
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages import relay as messages

if TYPE_CHECKING:
    from relay.tracing import PushTraces

DEFAULT_LIFETIME_SECONDS = 300
MAX_LIFETIME_SECONDS = 3600
"""A longer lifetime is shortened to this, which limits the number of stored pushes."""
RESPONSE_SECONDS = 2.0


class _Head(msgspec.Struct):
    type: str = ""


_head = msgspec.json.Decoder(_Head).decode


class Pushes:
    """`rate` limits the pushes of a server to a device, `shares` all of its requests; `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        registry: PushQueue,
        sealer: Sealer,
        dispatch: Dispatch,
        rate: Rate,
        shares: ServerShares,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        traces: PushTraces | None = None,
    ) -> None:
        self._registry = registry
        self._traces = traces
        self._sealer = sealer
        self._dispatch = dispatch
        self._rate = rate
        self._shares = shares
        self._clock = clock
        self._randomness = randomness

    async def push(self, server_id: bytes, request: messages.PushRequest) -> messages.PushResults:
        """Returns within RESPONSE_SECONDS: pushes without an outcome by then are queued. One invalid push rejects all
        of them."""
        self._shares.charge(server_id, len(request.pushes))
        now = self._clock()
        new_pushes = [self._new_push(push, f"$.pushes[{index}]", now) for index, push in enumerate(request.pushes)]
        async with self._shares.slot(server_id):
            admitted = await self._registry.admit(server_id, new_pushes, now, self._rate)
        if self._traces is not None:
            _trace_ended(self._traces, new_pushes, admitted)
        to_send = [
            (Push(server_id, push, answer.device.platform, created_at=now), answer.device)
            for push, answer in zip(new_pushes, admitted, strict=True)
            if answer.device is not None and answer.device.platform != "websocket"
        ]
        outcomes = await self._dispatch.deliver(to_send, RESPONSE_SECONDS)
        return messages.PushResults(
            [
                _result(push, answer, outcomes.get(push.push_key))
                for push, answer in zip(new_pushes, admitted, strict=True)
            ]
        )

    async def outcomes(self, server_id: bytes, push_keys: Sequence[str]) -> messages.PushResults:
        self._shares.charge(server_id, 1)
        async with self._shares.slot(server_id):
            found = await self._registry.outcomes(server_id, push_keys)
        return messages.PushResults([_stored_result(push) for push in found])

    def _new_push(self, push: messages.WantedPush, path: str, now: float) -> NewPush:
        fingerprint = decode_hex(push.fingerprint, f"{path}.fingerprint", length=32)
        payload = bytes(push.payload)
        if len(payload) > messages.MAX_PAYLOAD:
            raise InvalidRequest(f"A payload has at most {messages.MAX_PAYLOAD} bytes.", path=f"{path}.payload")
        push_id, creation = self._randomness(16), trace_context.sampled(push.traceparent)
        expires_at = int(now) + DEFAULT_LIFETIME_SECONDS
        if push.expires_at is not None:
            expires_at = min(parse_time(push.expires_at, f"{path}.expires_at"), int(now) + MAX_LIFETIME_SECONDS)
        return NewPush(
            push_id=push_id,
            push_key=push.push_key,
            fingerprint=fingerprint,
            payload=self._sealer.seal("payload", fingerprint, "", payload),
            expires_at=expires_at,
            collapse_id=push.collapse_id,
            priority=push.priority or "high",
            exempt=_payload_type(payload, path) == "clear",
            owner=push.owner or "",
            traceparent=None if creation is None else trace_context.pack(creation),
        )


def _trace_ended(traces: PushTraces, pushes: Sequence[NewPush], admitted: Sequence[AdmissionResult]) -> None:
    """A span for each push that ended at its admission. Repeats of known pushes have none: they had one."""
    for push, answer in zip(pushes, admitted, strict=True):
        if answer.device is None and answer.push_id in {None, push.push_id}:
            span = traces.process(push, answer.platform)
            if span is not None:
                span.end(answer.status, answer.error)


def _payload_type(payload: bytes, path: str) -> str:
    try:
        # Decodes all of it: a payload that cannot become a frame must fail here, not later among other servers' pushes.
        msgspec.json.decode(payload)
        return _head(payload).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("A payload is a JSON object.", path=f"{path}.payload") from error


def _result(push: NewPush, answer: AdmissionResult, outcome: AttemptOutcome | None) -> messages.PushResult:
    result: dict[str, Any] = {"status": answer.status, "error": answer.error}
    if outcome is not None:
        result = {"status": outcome.status, "error": outcome.error}
    return messages.PushResult(
        fingerprint=push.fingerprint.hex(),
        provider=answer.platform,
        push_id=answer.push_id.hex() if answer.push_id else None,
        **result,
    )


def _stored_result(push: Push | None) -> messages.PushResult:
    if push is None:
        return messages.PushResult("", "failed", error="unknown")
    return messages.PushResult(
        push.push.fingerprint.hex(), push.status, push.platform, push.push.push_id.hex(), push.error
    )
