"""A web device's key in software, every field of its signatures forgeable (docs/protocol.md, 2.1).

key = WebKey("https://sigil.example.com")
key.sign(message)                                # as an honest page: both halves, or the local half alone by the tag
key.sign(message, flags=UP, origin="https://…")  # forged; both signatures still verify
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sigil.protocol.encoding.text import encode_base64, encode_base64url
from sigil.protocol.keys import PublicKey

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
# The table of section 2.4, apart from the code under test.
LOCAL_ALONE = tuple(
    b"SIGIL-" + name + b"-V1\0"
    for name in (b"AUTH-REJECT", b"MPA-REJECT", b"PENDING", b"RELAY-REGISTER", b"RELAY-UNREGISTER", b"RELAY-WS-AUTH")
)
Halves = Literal["both", "local", "assertion"]


class WebKey:
    """`public` is the parsed key, `wire` its bytes. Scalars of None are random."""

    def __init__(self, origin: str, *, assertion: int | None = None, local: int | None = None) -> None:
        self.origin = origin
        self._assertion, self._local = _private(assertion), _private(local)
        self.wire = (
            b"\x81\x80\xc0\x01"
            + _compressed(self._assertion)
            + _compressed(self._local)
            + hashlib.sha256(origin.encode()).digest()
        )

    @property
    def public(self) -> PublicKey:
        return PublicKey.parse(self.wire)

    @property
    def wire_key(self) -> str:
        """device_public_key."""
        return encode_base64(self.wire)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.wire).hexdigest()

    def sign(
        self,
        message: bytes,
        *,
        halves: Halves | None = None,
        flags: int = UP | UV,
        counter: int = 0,
        extensions: bytes = b"",
        rp_id: str | None = None,
        authenticator_data: bytes | None = None,
        client_data: bytes | None = None,
        wire: bytes | None = None,
        challenge: bytes | None = None,
        **members: Any,
    ) -> bytes:
        """`members` replace or extend those of clientDataJSON (type, origin, crossOrigin, topOrigin, …); None leaves
        one out. `wire`: the key whose hash is signed; `challenge`: the bytes that are hashed for the assertion.
        """
        signed = message + hashlib.sha256(wire or self.wire).digest()
        if halves is None:
            halves = "local" if message.startswith(LOCAL_ALONE) else "both"
        if halves == "local":
            return _sign(self._local, signed)
        if authenticator_data is None:
            host = rp_id if rp_id is not None else self.origin.split("://")[1].split(":")[0]
            authenticator_data = hashlib.sha256(host.encode()).digest() + bytes([flags]) + counter.to_bytes(4)
            authenticator_data += extensions
        if client_data is None:
            client_data = self.client_data(challenge if challenge is not None else signed, **members)
        assertion = _sign(self._assertion, authenticator_data + hashlib.sha256(client_data).digest())
        rest = len(authenticator_data).to_bytes(2) + authenticator_data + client_data
        return (b"" if halves == "assertion" else _sign(self._local, signed)) + assertion + rest

    def client_data(self, signed: bytes, **members: Any) -> bytes:
        """clientDataJSON as a browser writes it."""
        honest: Mapping[str, Any] = {
            "type": "webauthn.get",
            "challenge": encode_base64url(hashlib.sha256(signed).digest()),
            "origin": self.origin,
            "crossOrigin": False,
        }
        data = {name: value for name, value in {**honest, **members}.items() if value is not None}
        return json.dumps(data, separators=(",", ":")).encode()

    def sign_base64(self, message: bytes, **forged: Any) -> str:
        return encode_base64(self.sign(message, **forged))


def _private(scalar: int | None) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar or secrets.randbelow(2**255) + 1, ec.SECP256R1())


def _compressed(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r‖s, as a page makes it of an authenticator's DER."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)
