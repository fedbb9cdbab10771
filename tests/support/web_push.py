"""A browser's subscription for tests: its keys, its push_token, and what it decrypts (by http_ece, not by our code)."""

from __future__ import annotations

import json
import secrets
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sigil.protocol.encoding.text import encode_base64url

APP = "https://sigil.example.com/device/"


class Subscription:
    """`vapid_key` is the relay's public key as text (`webpush_key` of the registration challenge)."""

    def __init__(self, vapid_key: str, endpoint: str = "https://fcm.googleapis.com/fcm/send/t", app: str = APP) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        self.public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.auth = secrets.token_bytes(16)
        self.members: dict[str, Any] = {
            "app": app,
            "auth": encode_base64url(self.auth),
            "endpoint": endpoint,
            "key": vapid_key,
            "p256dh": encode_base64url(self.public),
        }

    def token(self, **changed: Any) -> str:
        """The push_token; None removes a member."""
        members = {name: value for name, value in {**self.members, **changed}.items() if value is not None}
        return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def decrypt(self, body: bytes) -> bytes:
        opened: bytes = http_ece.decrypt(body, private_key=self._private, auth_secret=self.auth, version="aes128gcm")
        return opened
