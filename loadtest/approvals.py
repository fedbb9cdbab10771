"""The request bodies of one challenge, without HTTP."""

from __future__ import annotations

import msgspec

from sigil.device import Device
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.messages.challenges import ChallengeCreated

ACTION = b'{"description":"Sign in to Example","params":{"ip":"192.0.2.7"},"type":"login"}'
"""Canonical JSON, so that a device signs it without canonicalising it."""


def creation_body(device: Device) -> bytes:
    """The body of `POST /challenge`."""
    return b'{"device_public_key":"%s","action":%s}' % (device.wire_key.encode(), ACTION)


def sign_approval(device: Device, created: ChallengeCreated) -> bytes:
    """The device's signature for a challenge. It does not check the server's signature here."""
    return device.sign_approval(decode_base64(created.challenge_bytes, "$.challenge_bytes", length=32), ACTION)


def response_body(device: Device, created: ChallengeCreated, signature: bytes) -> bytes:
    """The body of `POST /respond`."""
    return msgspec.json.encode(device.response_body(created.challenge_id, "approved", signature))
