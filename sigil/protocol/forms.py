"""What messages have in common: how strictly they are read, and the words that several of them use."""

from __future__ import annotations

from typing import Literal

import msgspec

Decision = Literal["approved", "rejected"]
Reason = Literal["cancelled", "unknown_trigger"]


class FromDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what devices and strangers send."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of what the server sends."""
