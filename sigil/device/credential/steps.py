"""What obtaining and sending a credential have without I/O: bodies, checks and errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sigil.device.attestation import Attester
from sigil.device.errors import AnswerUnusable, DeviceError, ServerRefused
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device
from sigil.protocol import signed_bytes
from sigil.protocol.device_credential import DeviceCredential, MalformedCredential, parse
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import AttestChallenge


class CredentialRefused(DeviceError):
    code = "CREDENTIAL_REFUSED"
    summary = "The server's device_credential is not for this device and server; it is not kept."


class AttestationOff(DeviceError):
    code = "ATTESTATION_OFF"
    summary = "This server accepts no attestation, and needs no device_credential: there is nothing to do."


def attest_body(
    device: Device, server: ServerPin, challenge: AttestChallenge, attester: Attester, previous: str | None
) -> dict[str, Any]:
    """`POST /device/attest`; `previous` is the credential that this one renews."""
    try:
        nonce = decode_base64(challenge.nonce, "$.nonce", length=32)
    except InvalidRequest as error:
        raise AnswerUnusable(f"{AnswerUnusable.summary} {error.message}") from error
    digest_for = partial(_digest, nonce, server.server_id)
    attestation = attester.statement(digest_for, device.public, renewal=previous is not None)
    # The proof is over the digest that the statement holds.
    digest = digest_for(attestation["kind"], _key_member(attestation, device.wire_key))
    body: dict[str, Any] = {
        "device_public_key": device.wire_key,
        "challenge_id": challenge.challenge_id,
        "attestation": attestation,
        "signature": encode_base64(device.sign_attestation(digest, canonical(attestation))),
    }
    if previous is not None:
        body["device_credential"] = previous
    return body


def _digest(nonce: bytes, server_id: str, kind: str, key: str) -> bytes:
    return signed_bytes.attest_digest(context="", key=key, kind=kind, nonce=nonce, server_id=server_id)


def _key_member(attestation: Mapping[str, Any], wire_key: str) -> str:
    """Empty where the attested certificate holds the device's key itself."""
    direct = attestation["kind"] == "yubikey-piv" or (
        attestation["kind"] == "android-key" and not attestation["witness"]
    )
    return "" if direct else wire_key


def checked_credential(text: str, device: PublicKey, server: ServerPin) -> DeviceCredential:
    """A credential that the pinned server signed for this key; CredentialRefused."""
    try:
        credential = parse(text)
    except MalformedCredential as error:
        raise CredentialRefused(f"The server's device_credential {error}.") from error
    if credential.payload.fingerprint != device.fingerprint or not credential.is_signed_by(server.key("ES256")):
        raise CredentialRefused
    return credential


def renewal_time(text: str | None, device: PublicKey, server: ServerPin) -> float | None:
    """Unix seconds: two thirds of a credential's life. None for one that is not for this device and server."""
    try:
        payload = checked_credential(text or "", device, server).payload
    except CredentialRefused:
        return None
    return payload.issued_at + (payload.expires_at - payload.issued_at) * 2 / 3


def has_expired(error: ServerRefused) -> bool:
    """Whether a new credential lets the server accept the same answer."""
    return error.code == "ATTESTATION_INVALID" and error.details.get("reason") == "expired"


def with_credential(body: Mapping[str, str], credential: str | None) -> dict[str, str]:
    return {**body, **({"device_credential": credential} if credential is not None else {})}


def approval_error(error: ServerRefused) -> ServerRefused:
    """The error of an approval; one about attestation also says what to do."""
    if error.code not in ("ATTESTATION_REQUIRED", "ATTESTATION_INVALID"):
        return error
    hint = "The challenge is still pending. Run 'sigil device attest', then approve it again."
    return ServerRefused(error.status, error.code, f"{error.message} {hint}", error.details)
