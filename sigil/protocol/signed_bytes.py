"""Every signed byte string (docs/protocol.md, 2.4): each function returns `tag ‖ message`.

Hashes are 32 raw bytes. A server_id is its 64 hex characters. A timestamp is the text that was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import encode_base64, format_time

AUTH = b"SIGIL-AUTH-V1\0"
AUTH_MATCH = b"SIGIL-AUTH-MATCH-V1\0"
AUTH_REJECT = b"SIGIL-AUTH-REJECT-V1\0"
MPA = b"SIGIL-MPA-V1\0"
MPA_REJECT = b"SIGIL-MPA-REJECT-V1\0"
PENDING = b"SIGIL-PENDING-V1\0"
SERVER_KEYS = b"SIGIL-SERVER-KEYS-V1\0"
RELAY_REGISTER = b"SIGIL-RELAY-REGISTER-V1\0"
RELAY_UNREGISTER = b"SIGIL-RELAY-UNREGISTER-V1\0"
RELAY_WS_AUTH = b"SIGIL-RELAY-WS-AUTH-V1\0"
RELAY_REQUEST = b"SIGIL-RELAY-REQUEST-V1\0"
ENROL_OFFER = b"SIGIL-ENROL-OFFER-V1\0"
ENROL = b"SIGIL-ENROL-V1\0"
ENROL_REPLACE = b"SIGIL-ENROL-REPLACE-V1\0"
ATTEST_PROOF = b"SIGIL-ATTEST-PROOF-V1\0"
DEVICE_CREDENTIAL = b"SIGIL-DEVICE-CREDENTIAL-V1\0"
_BIND = b"SIGIL-CHALLENGE-BIND-V1\0"
_ENROL_TOKEN = b"SIGIL-ENROL-TOKEN-V1\0"
_ENROL_COMMIT = b"SIGIL-ENROL-COMMIT-V1\0"
_ENROL_SAS = b"SIGIL-ENROL-SAS-V1\0"
_ATTEST = b"SIGIL-ATTEST-V1\0"


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def challenge_bytes(
    *,
    challenge_id: str,
    expires_at: int,
    fingerprint: str,
    nonce: bytes,
    number_matching: bool,
    respond_to: str | None,
    server_id: str,
) -> bytes:
    """The 32 bytes that bind a challenge to every member that a device relies on."""
    bound = {
        "challenge_id": challenge_id,
        "expires_at": format_time(expires_at),
        "fingerprint": fingerprint,
        "nonce": encode_base64(nonce),
        "number_matching": number_matching,
        "respond_to": respond_to or "",
        "server_id": server_id,
    }
    return _sha256(_BIND + canonical(bound))


def approval(challenge: bytes, action_jcs: bytes) -> bytes:
    """Signed by the server when it creates a challenge, and by the device when it approves."""
    return AUTH + challenge + _sha256(action_jcs)


def matched_approval(challenge: bytes, action_jcs: bytes, match_code: str) -> bytes:
    """An approval with number matching: the user typed the two digits that the integrator displayed."""
    return AUTH_MATCH + challenge + _sha256(action_jcs) + match_code.encode("ascii")


def rejection(challenge: bytes, action_jcs: bytes) -> bytes:
    return AUTH_REJECT + challenge + _sha256(action_jcs)


def mpa_approval(action_context: Mapping[str, object]) -> bytes:
    return MPA + canonical(dict(action_context))


def mpa_rejection(action_context: Mapping[str, object]) -> bytes:
    return MPA_REJECT + canonical(dict(action_context))


def groups_sha256(groups: Sequence[Sequence[str]]) -> str:
    """Hex SHA-256 of the groups' fingerprints: each group sorted, the groups in the order of the request."""
    return _sha256(canonical([sorted(group) for group in groups])).hex()


def pending(server_id: str, timestamp: str) -> bytes:
    return PENDING + f"{server_id}\0{timestamp}".encode()


def server_keys(server_public_keys: Mapping[str, str]) -> bytes:
    return SERVER_KEYS + canonical(dict(server_public_keys))


def relay_register(relay_origin: str, platform: str, nonce: bytes, push_token: str) -> bytes:
    return RELAY_REGISTER + f"{relay_origin}\0{platform}\0".encode() + nonce + push_token.encode()


def relay_unregister(relay_origin: str, nonce: bytes) -> bytes:
    return RELAY_UNREGISTER + f"{relay_origin}\0".encode() + nonce


def relay_ws_auth(relay_origin: str, challenge: bytes) -> bytes:
    return RELAY_WS_AUTH + f"{relay_origin}\0".encode() + challenge


def relay_request(method: str, target: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    return RELAY_REQUEST + f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + _sha256(body)


def enrolment_offer(offer_jcs: bytes) -> bytes:
    """Signed by the server's ES256 key; `offer_jcs` is the canonical JSON of the offer."""
    return ENROL_OFFER + offer_jcs


def enrolment_completion(digest: bytes) -> bytes:
    """Signed by the new key; `digest` is `enrolment_digest`."""
    return ENROL + digest


def enrolment_consent(digest: bytes) -> bytes:
    """Signed by the key that is replaced."""
    return ENROL_REPLACE + digest


def enrolment_digest(offer_sha256: bytes, device_key: bytes, attestation_jcs: bytes) -> bytes:
    """D, 96 bytes: the offer, the new key as on the wire, and the attestation, empty without one."""
    return offer_sha256 + _sha256(device_key) + _sha256(attestation_jcs)


def enrolment_token_sha256(token: str) -> bytes:
    """`token` in its canonical form."""
    return _sha256(_ENROL_TOKEN + token.encode("ascii"))


def enrolment_commitment(sas_nonce: bytes) -> bytes:
    return _sha256(_ENROL_COMMIT + sas_nonce)


def enrolment_sas(digest: bytes, sas_nonce: bytes) -> bytes:
    """The 32 bytes of the short authentication string."""
    return _sha256(_ENROL_SAS + digest + sas_nonce)


def attest_digest(*, context: str, key: str, kind: str, nonce: bytes, server_id: str) -> bytes:
    """The 32 bytes that an attestation holds as its challenge.

    `context` is the enrolment_id, or empty. `key` is empty where the attested certificate holds the device's key, else
    device_public_key.
    """
    bound = {"context": context, "key": key, "kind": kind, "nonce": encode_base64(nonce), "server_id": server_id}
    return _sha256(_ATTEST + canonical(bound))


def attestation_proof(digest: bytes, attestation_jcs: bytes) -> bytes:
    """Signed by the device's key; `digest` is `attest_digest`."""
    return ATTEST_PROOF + digest + _sha256(attestation_jcs)


def device_credential(payload: bytes) -> bytes:
    """Signed by the server's ES256 key; `payload` is the canonical JSON of the credential's payload."""
    return DEVICE_CREDENTIAL + payload
