"""What a server reports about itself, and the body of its errors (docs/protocol.md, sections 1 and 5)."""

from __future__ import annotations

from typing import Any, Literal

from sigil.protocol.messages.base import Answer

Mode = Literal["operational", "init"]


class Health(Answer, frozen=True):
    """`GET /health`; 503 when `status` is `unhealthy`"""

    status: Literal["healthy", "initializing", "unhealthy"]
    mode: Mode
    version: str
    details: dict[str, str] | None = None


class Features(Answer, frozen=True):
    mpa: bool
    webhooks: bool
    secure_decrypt: bool
    mnemonic_generation: bool
    attestation: bool = False
    device_app: bool = False
    web_plain_keys: bool = False


class AcceptedAttestation(Answer, frozen=True):
    """`kinds` is sorted and not empty; with `required`, approvals need a device_credential"""

    kinds: list[str]
    required: bool


class Info(Answer, frozen=True):
    """`GET /info`; in init mode only version, mode and server_name"""

    server_id: str
    server_name: str
    server_public_key: str
    server_public_keys: dict[str, str]
    keys_signature: str
    server_pictogram: list[str]
    server_pictogram_speakable: str
    version: str
    mode: Mode
    features: Features
    relay_url: str | None = None
    attestation: AcceptedAttestation | None = None


class ErrorBody(Answer, frozen=True):
    code: str
    message: str
    details: dict[str, Any] | None = None


class ErrorAnswer(Answer, frozen=True):
    """Every answer with a status of 400 or more"""

    error: ErrorBody
