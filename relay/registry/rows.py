"""Rows of both databases: their columns, and the conversion from and to values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from relay.registry.model import Device, NewPush, PastPush, Push, Server

SERVER = "server_id, public_key, name, trusted_at, listed"
_DEVICE = "fingerprint public_key platform token registered_at seen_at failures evicted used"
_PUSH = (
    "push_id push_key fingerprint payload expires_at collapse_id priority exempt owner traceparent "
    "server_id platform status error due attempts created_at ended_at"
)
_PAST = "created_at ended_at push_id push_key platform status error attempts due"
PUSH_WIDTH = len(_PUSH.split())


def device_columns(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _DEVICE.split())


def push_columns(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _PUSH.split())


def server_of(row: Sequence[Any]) -> Server:
    server_id, public_key, name, trusted_at, listed = row
    return Server(server_id, public_key, name, trusted_at, bool(listed))


def device_of(row: Sequence[Any]) -> Device:
    fingerprint, public_key, platform, token, registered_at, seen_at, failures, evicted, used = row
    return Device(fingerprint, public_key, platform, token, registered_at, seen_at, failures, evicted, bool(used))


def push_of(row: Sequence[Any]) -> Push:
    push_id, push_key, fingerprint, payload, expires_at, collapse_id, priority, exempt, owner, *rest = row
    traceparent, server_id, *delivery = rest
    new = NewPush(
        push_id, push_key, fingerprint, payload, expires_at, collapse_id, priority, bool(exempt), owner, traceparent
    )
    return Push(server_id, new, *delivery)


def past_columns(table: str) -> str:
    """The columns of `past_push_of`."""
    return ", ".join(f"{table}.{name}" for name in _PAST.split())


def past_push_of(row: Sequence[Any]) -> PastPush:
    created_at, ended_at, push_id, push_key, platform, status, error, attempts, due = row
    # The attempt at the admission claims nothing.
    made = attempts if platform == "websocket" else attempts + 1
    return PastPush(created_at, ended_at, push_id.hex(), push_key, platform, status, error, made, due)


def expired_push_of(row: Sequence[Any], expires_at: int) -> PastPush:
    """The push of a deleted row: if it was still queued, it expired."""
    past = past_push_of(row)
    if past.status == "queued":
        past = past._replace(status="failed", error="expired", ended_at=float(expires_at))
    return past._replace(due=0)


def entries_of(entries: str) -> list[PastPush]:
    """From the JSON of a row of the history."""
    return [PastPush(*entry) for entry in msgspec.json.decode(entries, type=list[list[Any]])]


def entries_row(pushes: Sequence[PastPush]) -> str:
    return msgspec.json.encode([push[:-1] for push in pushes]).decode()


def device_row(device: Device) -> tuple[bytes, bytes, str, bytes, int, int]:
    """The columns that a registration sets, in their order."""
    return (
        device.fingerprint,
        device.public_key,
        device.platform,
        device.token,
        device.registered_at,
        device.seen_at,
    )


def server_row(server: Server) -> tuple[bytes, bytes, str, int, bool]:
    """The values of SERVER, in their order."""
    return server.server_id, server.public_key, server.name, server.trusted_at, server.listed


def push_row(push: Push) -> tuple[Any, ...]:
    """The values of `push_columns`, in their order."""
    new = push.push
    return (
        new.push_id,
        new.push_key,
        new.fingerprint,
        new.payload,
        new.expires_at,
        new.collapse_id,
        new.priority,
        new.exempt,
        new.owner,
        new.traceparent,
        push.server_id,
        push.platform,
        push.status,
        push.error,
        push.due,
        push.attempts,
        push.created_at,
        push.ended_at,
    )
