"""The errors of a device: one class for each check, with a code that scripts can compare.

Messages may quote text from a server: pass them through `display.printable` before you show them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Peer = Literal["server", "relay"]


class DeviceError(Exception):
    """Base. `code` is stable, in upper case; the message is one line and never holds a secret."""

    code: str = "DEVICE_ERROR"
    summary: str = "The device failed."

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.summary
        super().__init__(self.message)


class PayloadRefused(DeviceError):
    """Base of the checks on a payload (docs/protocol.md, 1, 2.4, 5.2, 5.3): nothing of it may be shown."""


class MalformedPayload(PayloadRefused):
    code = "PAYLOAD_MALFORMED"
    summary = "The payload is not of the documented form."


class ServerNotPinned(PayloadRefused):
    code = "SERVER_NOT_PINNED"
    summary = "The payload is from another server than the one with which this device is enrolled."


class NotThisDevice(PayloadRefused):
    code = "NOT_THIS_DEVICE"
    summary = "The challenge is for another device."


class ChallengeBytesMismatch(PayloadRefused):
    code = "CHALLENGE_BYTES_MISMATCH"
    summary = "challenge_bytes do not match the other members of the payload: one of them was changed."


class ContextMismatch(PayloadRefused):
    code = "CONTEXT_MISMATCH"
    summary = "The signed context of the request does not match the payload."


class ActionRefused(PayloadRefused):
    code = "ACTION_REFUSED"
    summary = "The action is not in the canonical form that may be signed."


class ServerSignatureInvalid(PayloadRefused):
    code = "SERVER_SIGNATURE_INVALID"
    summary = "The pinned server did not sign the payload."


class RespondToForeign(PayloadRefused):
    code = "RESPOND_TO_FOREIGN"
    summary = "respond_to names another origin than the pinned server's."


class ChallengeOver(PayloadRefused):
    code = "CHALLENGE_EXPIRED"
    summary = "The challenge or request has expired."


class IdentityRefused(DeviceError):
    """Base of the checks on `/info` at enrolment (docs/protocol.md, 1): nothing is pinned."""


class MalformedInfo(IdentityRefused):
    code = "INFO_MALFORMED"
    summary = "The server's /info is not of the documented form."


class ServerNotReady(IdentityRefused):
    code = "NOT_INITIALIZED"
    summary = "The server is not initialized and has no identity to pin."


class ServerKeyUnusable(IdentityRefused):
    code = "SERVER_KEY_UNUSABLE"
    summary = "A key of the server is missing or is not a key of its suite."


class ServerKeysDisagree(IdentityRefused):
    code = "SERVER_KEYS_DISAGREE"
    summary = "server_public_key is not the ES256 key of server_public_keys."


class ServerIdMismatch(IdentityRefused):
    code = "SERVER_ID_MISMATCH"
    summary = "server_id is not the fingerprint of the server's ES256 key."


class KeysSignatureInvalid(IdentityRefused):
    code = "KEYS_SIGNATURE_INVALID"
    summary = "The server's ES256 key did not sign its list of keys."


class PinMismatch(IdentityRefused):
    code = "PIN_MISMATCH"
    summary = "This is not the expected server."


class IdentityChanged(IdentityRefused):
    code = "SERVER_IDENTITY_CHANGED"
    summary = "The server's identity has changed."


class NotConfirmed(IdentityRefused):
    code = "NOT_CONFIRMED"
    summary = "The server's identity was not confirmed."


class AddressRefused(DeviceError):
    code = "ADDRESS_REFUSED"
    summary = "The address is not valid."


class TrustUnusable(DeviceError):
    code = "TLS_TRUST_UNUSABLE"
    summary = "The certificates to trust cannot be read."


class KeyFileExposed(DeviceError):
    code = "KEY_FILE_EXPOSED"
    summary = "Other users can reach the key file."


class KeyFileUnusable(DeviceError):
    code = "KEY_FILE_UNUSABLE"
    summary = "The key file cannot be read."


class AlreadyRegistered(DeviceError):
    code = "ALREADY_REGISTERED"
    summary = "This device already has a key for that server."


class NotRegistered(DeviceError):
    code = "NOT_REGISTERED"
    summary = "This device has no key for that server; run 'sigil device enrol' with a link of it first, or 'init'."


class NotPending(DeviceError):
    code = "CHALLENGE_NOT_FOUND"
    summary = (
        "The server lists nothing pending with that id for this device. It may have ended; run 'sigil device pending'."
    )


class MatchCodeRequired(DeviceError):
    code = "MATCH_CODE_REQUIRED"
    summary = "To approve this challenge, pass the two digits that the service shows (--match-code)."


class MatchCodeUnexpected(DeviceError):
    code = "MATCH_CODE_UNEXPECTED"
    summary = "This challenge has no number matching; approve it without a code."


class Unreachable(DeviceError):
    code = "SERVER_UNREACHABLE"
    summary = "The server cannot be reached."


class CertificateUntrusted(Unreachable):
    """The TLS certificate of `peer` is not trusted; nothing was sent. `fault` is the message without the hint."""

    def __init__(self, fault: str, peer: Peer = "server") -> None:
        super().__init__(f"{fault} Pass a TlsTrust with ca_pem or sha256.")
        self.fault, self.peer = fault, peer


class AnswerUnusable(DeviceError):
    code = "ANSWER_UNUSABLE"
    summary = "The server's response is not of the documented form."


class ServerRefused(DeviceError):
    """An error response (docs/protocol.md, 4): `status` is HTTP's, `code` and `details` the server's own."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details or {}

    @property
    def retryable(self) -> bool:
        """Whether the error is temporary: overload, rate limits, a restart."""
        return self.status == 429 or self.status >= 500


MAX_WRONG_CODES = 3
"""The third wrong code ends a challenge as rejected (docs/protocol.md, 5.2)."""


class MatchCodeWrong(ServerRefused):
    """The server counted a wrong code. `tries_left` is what this device knows of."""

    def __init__(self, tries_left: int) -> None:
        self.tries_left = tries_left
        if tries_left:
            left = f"{tries_left} {'try is' if tries_left == 1 else 'tries are'} left"
            text = f"This is not the number that the service shows: {left}, then the challenge is rejected."
        else:
            text = "The number was wrong three times: the challenge is rejected."
        super().__init__(401, "MATCH_CODE_WRONG", text)


def is_temporary(error: DeviceError) -> bool:
    """Whether a retry may succeed."""
    return isinstance(error, Unreachable) or (isinstance(error, ServerRefused) and error.retryable)
