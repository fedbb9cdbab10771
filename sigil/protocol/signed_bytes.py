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
_BIND = b"SIGIL-CHALLENGE-BIND-V1\0"


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
