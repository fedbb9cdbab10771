"""The base classes and shared field types of messages."""

from __future__ import annotations

from typing import Literal

import msgspec

Decision = Literal["approved", "rejected"]
Reason = Literal["cancelled", "unknown_trigger"]


class FromDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of requests of devices and unauthenticated clients: unknown members are rejected."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of the messages that the server sends: members with their default value are left out."""
