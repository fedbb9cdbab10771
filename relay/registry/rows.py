"""Rows of both databases: their columns, and the conversion from and to values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.registry.model import Device, NewPush, Push, Server

SERVER = "server_id, public_key, name, trusted_at, listed"
_DEVICE = "fingerprint public_key platform token registered_at seen_at failures evicted used"
_PUSH = (
    "push_id push_key fingerprint payload expires_at collapse_id priority exempt owner traceparent "
    "server_id platform status error due attempts created_at"
)
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
    )
