"""The signed bytes of every use, and challenge_bytes."""

from __future__ import annotations

from . import Case, b64, jcs, sha256
from .curves import P256, SECP256K1, SECRET, SEED, ed_public, ed_sign, rs

# --- Signed bytes: every use of the table of tags ---

CHALLENGE = bytes.fromhex("0123456789abcdef") * 4
ACTION = {"type": "engine_login", "description": "Sign in to Engine Management", "user_id": "alice"}
SERVER_ID = sha256(P256.public(SECRET)).hex()
CONTEXT = {
    "type": "deploy",
    "description": "Zoë deploys €",
    "params": {"\U0001f600": 1, "\ufb33": [True, None], "a": {"b": "\u0001\u007f/"}},
    "mpa_id": "550e8400-e29b-41d4-a716-446655440000",
    "request_id": "r-1",
    "nonce": b64(bytes(range(32))),
    "server_id": SERVER_ID,
    "expires_at": "2026-04-24T10:37:15Z",
    "respond_to": "",
    "required": 1,
    "reject_policy": "continue",
    "groups_sha256": sha256(jcs([[SERVER_ID]])).hex(),
}
ORIGIN = "https://relay.example.com"


def signed() -> list[Case]:
    hashed = CHALLENGE + sha256(jcs(ACTION))
    nonce, body = bytes(range(32)), b'{"pushes":[]}'
    suites = {"ES256": P256.public(SECRET), "ES256K": SECP256K1.public(SECRET), "Ed25519": ed_public(SEED)}
    server_keys = {suite: b64(key) for suite, key in suites.items()}
    action = jcs(ACTION).decode()
    challenge = {"challenge": CHALLENGE.hex(), "action_jcs": action}
    context = {"action_context": CONTEXT}
    rows: list[tuple[str, Case, bytes]] = [
        ("approval", challenge, b"SIGIL-AUTH-V1\0" + hashed),
        ("matched_approval", challenge | {"match_code": "07"}, b"SIGIL-AUTH-MATCH-V1\0" + hashed + b"07"),
        ("rejection", challenge, b"SIGIL-AUTH-REJECT-V1\0" + hashed),
        ("mpa_approval", context, b"SIGIL-MPA-V1\0" + jcs(CONTEXT)),
        ("mpa_rejection", context, b"SIGIL-MPA-REJECT-V1\0" + jcs(CONTEXT)),
        (
            "pending",
            {"server_id": SERVER_ID, "timestamp": "2026-04-24T10:37:15Z"},
            b"SIGIL-PENDING-V1\0" + SERVER_ID.encode() + b"\0" + b"2026-04-24T10:37:15Z",
        ),
        ("server_keys", {"server_public_keys": server_keys}, b"SIGIL-SERVER-KEYS-V1\0" + jcs(server_keys)),
        (
            "relay_register",
            {"relay_origin": ORIGIN, "platform": "apns", "nonce": nonce.hex(), "push_token": "tokén"},
            b"SIGIL-RELAY-REGISTER-V1\0" + ORIGIN.encode() + b"\0apns\0" + nonce + "tokén".encode(),
        ),
        (
            "relay_unregister",
            {"relay_origin": ORIGIN, "nonce": nonce.hex()},
            b"SIGIL-RELAY-UNREGISTER-V1\0" + ORIGIN.encode() + b"\0" + nonce,
        ),
        (
            "relay_ws_auth",
            {"relay_origin": ORIGIN, "challenge": nonce.hex()},
            b"SIGIL-RELAY-WS-AUTH-V1\0" + ORIGIN.encode() + b"\0" + nonce,
        ),
        (
            "relay_request",
            {
                "method": "POST",
                "target": "/push?a=%20b",
                "timestamp": "1777026735",
                "nonce": bytes(range(16)).hex(),
                "body": body.hex(),
            },
            b"SIGIL-RELAY-REQUEST-V1\0POST\n/push?a=%20b\n1777026735\n"
            + bytes(range(16)).hex().encode()
            + b"\n"
            + sha256(body),
        ),
        *_signed_by_enrolment_and_attestation(),
    ]
    return [
        {
            "name": use,
            "input": given,
            "expect": {
                "message": message.hex(),
                "ES256": rs(*P256.sign(SECRET, message)).hex(),
                "ES256K": rs(*SECP256K1.sign(SECRET, message)).hex(),
                "Ed25519": ed_sign(SEED, message).hex(),
            },
        }
        for use, given, message in rows
    ]


def _signed_by_enrolment_and_attestation() -> list[tuple[str, Case, bytes]]:
    offer = {"account": "Zoë €", "server_id": SERVER_ID}
    statement = {"kind": "yubikey-piv", "x5c": ["AAAA", "BBBB"]}
    digest, challenge = CHALLENGE * 3, bytes(range(32))
    payload = jcs({"v": 1, "server_id": SERVER_ID})
    return [
        ("enrolment_offer", {"offer_jcs": jcs(offer).decode()}, b"SIGIL-ENROL-OFFER-V1\0" + jcs(offer)),
        ("enrolment_completion", {"digest": digest.hex()}, b"SIGIL-ENROL-V1\0" + digest),
        ("enrolment_consent", {"digest": digest.hex()}, b"SIGIL-ENROL-REPLACE-V1\0" + digest),
        (
            "attestation_proof",
            {"digest": challenge.hex(), "attestation_jcs": jcs(statement).decode()},
            b"SIGIL-ATTEST-PROOF-V1\0" + challenge + sha256(jcs(statement)),
        ),
        ("device_credential", {"payload": payload.hex()}, b"SIGIL-DEVICE-CREDENTIAL-V1\0" + payload),
    ]


def bindings() -> list[Case]:
    base: Case = {
        "challenge_id": "550e8400-e29b-41d4-a716-446655440000",
        "expires_at": "2026-04-24T10:37:15Z",
        "fingerprint": SERVER_ID,
        "nonce": b64(bytes(range(32))),
        "number_matching": False,
        "respond_to": "",
        "server_id": "0" * 64,
    }
    changes: list[tuple[str, Case]] = [
        ("nothing changed", {}),
        ("another challenge_id", {"challenge_id": "550e8400-e29b-41d4-a716-446655440001"}),
        ("a second later", {"expires_at": "2026-04-24T10:37:16Z"}),
        ("another fingerprint", {"fingerprint": "f" * 64}),
        ("another nonce", {"nonce": b64(bytes(32))}),
        ("with number matching", {"number_matching": True}),
        ("with an address to respond to", {"respond_to": "https://sigil.example.com/respond"}),
        ("another server", {"server_id": "1" * 64}),
    ]
    return [
        {
            "name": name,
            "input": base | change,
            "expect": sha256(b"SIGIL-CHALLENGE-BIND-V1\0" + jcs(base | change)).hex(),
        }
        for name, change in changes
    ]
