"""A second implementation of the protocol's bytes: keys, fingerprints, signed messages, API keys."""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import coincurve
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mnemonic import Mnemonic
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

AUTH = b"SIGIL-AUTH-V1\0"
MATCH = b"SIGIL-AUTH-MATCH-V1\0"
REJECT = b"SIGIL-AUTH-REJECT-V1\0"
PENDING = b"SIGIL-PENDING-V1\0"
SERVER_KEYS = b"SIGIL-SERVER-KEYS-V1\0"
BIND = b"SIGIL-CHALLENGE-BIND-V1\0"
MPA = b"SIGIL-MPA-V1\0"

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ORDERS = {"ES256": P256_ORDER, "ES256K": K256_ORDER}
SUITES = ("ES256", "ES256K", "Ed25519")

PICTOGRAMS = [
    pair.split()
    for pair in (
        "🍎 apple|🍌 banana|🍇 grapes|🍊 orange|🍋 lemon|🍒 cherry|🍓 strawberry|🥝 kiwi|"
        "🥕 carrot|🌽 corn|🥦 broccoli|🍄 mushroom|🌶️ pepper|🥑 avocado|🧅 onion|🥜 peanut|"
        "🍕 pizza|🍔 burger|🌮 taco|🍩 donut|🍪 cookie|🍰 cake|🧁 cupcake|🍿 popcorn|"
        "🚗 car|🚕 taxi|🚌 bus|🚀 rocket|✈️ plane|🚁 helicopter|⛵ sailboat|🚲 bicycle|"
        "🐕 dog|🐈 cat|🐟 fish|🦋 butterfly|🐝 bee|🦊 fox|🦁 lion|🐘 elephant|"
        "🌲 tree|🌻 sunflower|🌵 cactus|🍀 clover|🌸 blossom|🌈 rainbow|⭐ star|🌙 moon|"
        "🏠 house|⛰️ mountain|🗻 peak|🌋 volcano|🏝️ island|🗿 moai|⛺ tent|🏰 castle|"
        "🔑 key|🔔 bell|📚 books|🎸 guitar|⚓ anchor|👑 crown|💎 diamond|🔥 fire"
    ).split("|")
]

SIGNATURES: list[str] = []
"""Every signature that this session created or received: none may be in a server's output."""
API_KEYS: list[str] = []
"""Every API key of this session, for the same reason."""

TOKENS: list[str] = []
"""Every enrolment token of this session, for the same reason."""


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def fingerprint_of(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()


def pictogram_of(fingerprint: str) -> tuple[list[str], str]:
    x = int(fingerprint[:8], 16)
    chosen = [PICTOGRAMS[(x >> (26 - 6 * i)) & 63] for i in range(5)]
    return [emoji for emoji, _ in chosen], " ".join(name for _, name in chosen)


def rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def unix(text: str) -> int:
    seconds = calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    assert rfc3339(seconds) == text
    return seconds


class PrivateKey(Protocol):
    public: bytes

    def sign(self, message: bytes) -> bytes: ...


def _raw(der: bytes, order: int) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + min(s, order - s).to_bytes(32)


def _der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


class ES256:
    def __init__(self, scalar: bytes) -> None:
        self._key = ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def sign(self, message: bytes) -> bytes:
        return _raw(self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)), P256_ORDER)


class ES256K:
    def __init__(self, scalar: bytes) -> None:
        self._key = coincurve.PrivateKey(scalar)
        self.public = b"\xe7\x01" + self._key.public_key.format(compressed=True)

    def sign(self, message: bytes) -> bytes:
        return _raw(self._key.sign(message), K256_ORDER)


class Ed25519:
    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public = b"\xed\x01" + bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


PRIVATE = {"ES256": ES256, "ES256K": ES256K, "Ed25519": Ed25519}

LOCAL_TAGS = [
    b"SIGIL-AUTH-REJECT-V1\0",
    b"SIGIL-MPA-REJECT-V1\0",
    b"SIGIL-PENDING-V1\0",
    b"SIGIL-RELAY-REGISTER-V1\0",
    b"SIGIL-RELAY-UNREGISTER-V1\0",
    b"SIGIL-RELAY-WS-AUTH-V1\0",
]


class WebAuthn:
    """A web device: the authenticator's key and the browser's local key."""

    def __init__(self, origin: str, local: bytes | None = None, assertion: bytes | None = None) -> None:
        self.origin = origin
        self.local = ES256(local or secrets.token_bytes(32))
        self.assertion = ES256(assertion or secrets.token_bytes(32))
        halves = self.assertion.public + self.local.public
        self.public = b"\x81\x80\xc0\x01" + halves + hashlib.sha256(origin.encode()).digest()

    def sign(self, message: bytes) -> bytes:
        alone = any(message.startswith(tag) for tag in LOCAL_TAGS)
        return self.local_half(message) if alone else self.both(message)

    def local_half(self, message: bytes) -> bytes:
        return self.local.sign(self.signed(message))

    def signed(self, message: bytes) -> bytes:
        return message + hashlib.sha256(self.public).digest()

    def both(self, message: bytes, flags: int = 0x05, **members: Any) -> bytes:
        """`members` change clientDataJSON; flags are UP and UV."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.signed(message)).digest()).rstrip(b"=").decode()
        shown = {"type": "webauthn.get", "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        client_data = json.dumps(shown | members).encode()
        host = self.origin.split("//")[1].split(":")[0]
        authenticator_data = hashlib.sha256(host.encode()).digest() + bytes([flags]) + bytes(4)
        assertion = self.assertion.sign(authenticator_data + hashlib.sha256(client_data).digest())
        size = len(authenticator_data).to_bytes(2)
        return self.local_half(message) + assertion + size + authenticator_data + client_data


def proves_user_verification(public: bytes, message: bytes, signature: bytes) -> bool:
    """An auditor's check of an approval by a web device: every rule of 2.1.1 but the grammar of the origin."""
    assertion, local, origin_sha256 = public[4:37], public[37:70], public[70:]
    assert len(public) == 102
    assert public.startswith(b"\x81\x80\xc0\x01")
    assert len(signature) <= 1024
    signed = message + hashlib.sha256(public).digest()
    end = 130 + int.from_bytes(signature[128:130])
    authenticator_data, client_data = signature[130:end], signature[end:]
    shown = json.loads(client_data)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(signed).digest()).rstrip(b"=").decode()
    host = shown["origin"].split("//")[1].split(":")[0]
    return (
        (shown["type"], shown["challenge"]) == ("webauthn.get", challenge)
        and hashlib.sha256(shown["origin"].encode()).digest() == origin_sha256
        and shown.get("crossOrigin", False) is False
        and "topOrigin" not in shown
        and authenticator_data[:32] == hashlib.sha256(host.encode()).digest()
        and authenticator_data[32] & 0x05 == 0x05
        and len(authenticator_data) == 37
        and verifies(local, signed, signature[:64])
        and verifies(assertion, authenticator_data + hashlib.sha256(client_data).digest(), signature[64:128])
    )


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is valid. An ECDSA signature of the server must have its s in the lower half."""
    assert len(signature) == 64
    if len(public) == 34:
        assert public[:2] == b"\xed\x01"
        try:
            VerifyKey(public[2:]).verify(message, signature)
        except BadSignatureError:
            return False
        return True
    if len(public) == 35:
        assert public[:2] == b"\xe7\x01"
        low = int.from_bytes(signature[32:]) <= K256_ORDER // 2
        return low and coincurve.PublicKey(public[2:]).verify(_der(signature), message)
    assert len(public) == 33
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    try:
        key.verify(_der(signature), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return int.from_bytes(signature[32:]) <= P256_ORDER // 2


def high_s(signature: bytes, suite: str) -> bytes:
    """The second signature that ECDSA accepts for the same message: s in the other half."""
    s = int.from_bytes(signature[32:])
    return signature[:32] + (ORDERS[suite] - s).to_bytes(32)


@dataclass
class Device:
    """The state of a device: one private key, and the timestamps that it has used."""

    suite: str = "ES256"
    key: Any = None
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.key is None:
            self.key = PRIVATE[self.suite](secrets.token_bytes(32))

    @property
    def public(self) -> str:
        return b64(self.key.public)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.key.public)

    def sign(self, message: bytes) -> str:
        return note_signature(b64(self.key.sign(message)))

    def pending_body(self, server_id: str, timestamp: str | None = None) -> dict[str, Any]:
        now = int(time.time())
        if timestamp is None:
            timestamp = next(t for t in (rfc3339(now - back) for back in range(50)) if t not in self.used)
        self.used.add(timestamp)
        signature = self.sign(PENDING + server_id.encode() + b"\0" + timestamp.encode())
        return {"device_public_key": self.public, "timestamp": timestamp, "signature": signature}


def note_signature(text: str) -> str:
    if len(text) >= 88:
        SIGNATURES.append(text)
    return text


def signed_message(challenge_bytes: str, action: dict[str, Any], tag: bytes = AUTH, code: str = "") -> bytes:
    """The bytes that server and device sign for one challenge."""
    raw = unb64(challenge_bytes)
    assert len(raw) == 32
    return tag + raw + hashlib.sha256(rfc8785.dumps(action)).digest() + code.encode()


def bound_bytes(answer: dict[str, Any], server_id: str, *, number_matching: bool) -> str:
    """challenge_bytes, computed from the other members of the response."""
    bind = {
        "challenge_id": answer["challenge_id"],
        "expires_at": answer["expires_at"],
        "fingerprint": answer["fingerprint"],
        "nonce": answer["nonce"],
        "number_matching": number_matching,
        "respond_to": answer.get("respond_to", ""),
        "server_id": server_id,
    }
    return b64(hashlib.sha256(BIND + rfc8785.dumps(bind)).digest())


def _child(key: bytes, chain: bytes, index: int, *, hardened: bool) -> tuple[bytes, bytes]:
    number = index + (0x80000000 if hardened else 0)
    public = coincurve.PrivateKey(key).public_key.format(compressed=True)
    data = (b"\0" + key if hardened else public) + number.to_bytes(4)
    digest = hmac.digest(chain, data, "sha512")
    child = (int.from_bytes(digest[:32]) + int.from_bytes(key)) % K256_ORDER
    return child.to_bytes(32), digest[32:]


def _bip32(seed: bytes, path: str) -> bytes:
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    key, chain = digest[:32], digest[32:]
    for step in path.split("/")[1:]:
        key, chain = _child(key, chain, int(step.rstrip("'")), hardened=step.endswith("'"))
    return key


class ServerIdentity:
    """The keys that a server derives from its mnemonic."""

    def __init__(self, mnemonic: str | None = None) -> None:
        self.mnemonic = mnemonic or Mnemonic("english").generate(256)
        seed = Mnemonic.to_seed(self.mnemonic, "")
        self.keys: dict[str, Any] = {
            "ES256": ES256(_bip32(seed, "m/44'/0'/0'/0/0")),
            "ES256K": ES256K(_bip32(seed, "m/44'/0'/1'/0'/0'")),
            "Ed25519": Ed25519(self._derived(seed, "sigil/ed25519/v1")),
        }
        self._api_key_secret = self._derived(seed, "sigil/api-key/v1")

    @staticmethod
    def _derived(seed: bytes, label: str) -> bytes:
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=label.encode()).derive(seed)

    @property
    def server_id(self) -> str:
        return fingerprint_of(self.keys["ES256"].public)

    @property
    def public_keys(self) -> dict[str, str]:
        return {suite: b64(key.public) for suite, key in self.keys.items()}

    def signature(self, suite: str, message: bytes) -> str:
        return note_signature(b64(self.keys[suite].sign(message)))

    def api_key(self, prefix: str = "sgk_test_", key_id: bytes | None = None) -> str:
        key_id = key_id or secrets.token_bytes(16)
        mac = hmac.digest(self._api_key_secret, prefix.encode() + key_id, "sha256")[:16]
        key = prefix + (key_id + mac).hex()
        API_KEYS.append(key)
        return key
