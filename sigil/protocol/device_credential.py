"""The credential that a server issues for an attested key: `sdc1.payload.signature.facts` (docs/protocol.md, 5.6).

The first three parts are public, and prove to an auditor what was attested. The fourth holds facts that identify the
device, such as serial numbers: the device sends it to its server alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.text import decode_base64url, encode_base64url, format_time, parse_time
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import SIGNATURE_LENGTH, PublicKey
from sigil.protocol.messages.attestation import MAX_CREDENTIAL, AttestationSummary, Binding, Kind, Level

PREFIX = "sdc1"
VERSION = 1
SALT_BYTES = 16
_HEX32 = re.compile(r"[0-9a-f]{64}\Z")
T = TypeVar("T")


class MalformedCredential(ValueError):
    """The message completes "The device_credential …", and repeats nothing of the text."""


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a verified statement proves, and policy is applied to at each use. An absent fact fails a policy that needs
    it. Unknown members are ignored: a newer server of the same identity may have written them.
    """

    patch: int | None = None
    """Android: osPatchLevel, YYYYMM."""
    boot: Literal["verified", "self_signed"] | None = None
    """Android: verifiedBootState 0 or 1 of a locked device."""
    boot_key: str | None = None
    """Android: verifiedBootKey, lower-case hex."""
    user_auth: bool | None = None
    """Android: the key needs the user's authentication. YubiKey: the PIN policy is not never."""
    environment: Literal["production", "development"] | None = None
    """Apple: of the aaguid."""
    category: int | None = None
    """Apple: where the app was installed from, if the authenticator data has it."""
    firmware: tuple[int, int, int] | None = None
    """YubiKey."""
    app_attest_key: str | None = None
    """Apple: the App Attest key that signs assertions, base64 of 33 bytes SEC1 compressed."""
    counter: int | None = None
    """Apple: the counter of the last assertion."""
    serials: tuple[str, ...] = ()
    """Of the chain's certificates without the root: lower-case hex without leading zeros."""
    first_serials: tuple[str, ...] = ()
    """After a renewal: those of the first attestation's chain."""
    test_roots: tuple[str, ...] = ()
    """Lower-case hex SHA-256 of each root for tests that the proof rests on: it counts while all of them are listed."""

    def __repr__(self) -> str:
        """Serials identify a device."""
        return "Facts(…)"


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """The signed part, without its `v` and `facts_sha256`. Times are Unix seconds."""

    server_id: str
    fingerprint: str
    kind: Kind
    level: Level
    binding: Binding
    app: str
    attested_at: int
    issued_at: int
    expires_at: int


class _WirePayload(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    server_id: str
    fingerprint: str
    kind: Kind
    level: Level
    binding: Binding
    app: str
    attested_at: str
    issued_at: str
    expires_at: str
    facts_sha256: str


_TIMES = ("attested_at", "issued_at", "expires_at")


class PublicCredential(NamedTuple):
    """The first three parts, parsed and not yet verified."""

    text: str
    payload: Payload
    facts_sha256: str
    signed: bytes
    signature: bytes

    @property
    def packed(self) -> bytes:
        """Signature and payload: what a row keeps of it, a quarter shorter."""
        return self.signature + self.signed[len(signed_bytes.DEVICE_CREDENTIAL) :]

    def is_signed_by(self, server_key: PublicKey) -> bool:
        """Whether it is of the server with that ES256 key: signature, and server_id."""
        return self.payload.server_id == server_key.fingerprint and server_key.verify(self.signed, self.signature)


class DeviceCredential(NamedTuple):
    """A whole credential, parsed and not yet verified."""

    public: PublicCredential
    facts: Facts

    @property
    def payload(self) -> Payload:
        return self.public.payload

    def is_signed_by(self, server_key: PublicKey) -> bool:
        return self.public.is_signed_by(server_key)

    def __repr__(self) -> str:
        return f"DeviceCredential({self.payload!r}, …)"


def issue(payload: Payload, facts: Facts, sign: Callable[[bytes], bytes], *, salt: bytes) -> str:
    """The text of a credential; `sign` is of the server's ES256 key, `salt` 16 random bytes."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    # Without it, the public hash of the same facts would identify a device on every server. Nothing reads it.
    salted = msgspec.json.decode(msgspec.json.encode(facts)) | {"salt": encode_base64url(salt)}
    facts_jcs = canonical(salted)
    members: dict[str, Any] = msgspec.to_builtins(payload)
    for name in _TIMES:
        members[name] = format_time(members[name])
    members |= {"v": VERSION, "facts_sha256": hashlib.sha256(facts_jcs).hexdigest()}
    payload_jcs = canonical(members)
    parts = payload_jcs, sign(signed_bytes.device_credential(payload_jcs)), facts_jcs
    return ".".join([PREFIX, *map(encode_base64url, parts)])


def parse(text: str) -> DeviceCredential:
    """The four parts. Raises MalformedCredential; the caller verifies the signature."""
    parts = _parts(text, 4)
    public = _public(text.rpartition(".")[0], parts)
    if hashlib.sha256(parts[2]).hexdigest() != public.facts_sha256:
        raise MalformedCredential("has facts that its payload does not name")
    return DeviceCredential(public, _struct(parts[2], Facts, "facts"))


def parse_public(text: str) -> PublicCredential:
    """The first three parts, as in votes. Raises MalformedCredential; the caller verifies the signature."""
    return _public(text, _parts(text, 3))


def public_part(text: str) -> str:
    """The first three parts of a credential that `parse` accepted."""
    return text.rpartition(".")[0]


def unpacked(packed: bytes) -> tuple[str, AttestationSummary]:
    """The first three parts, and what they attest, from `PublicCredential.packed`. It does not repeat the checks of
    `parse_public`, which take 25 times as long.
    """
    signature, payload = packed[:SIGNATURE_LENGTH], packed[SIGNATURE_LENGTH:]
    text = f"{PREFIX}.{encode_base64url(payload)}.{encode_base64url(signature)}"
    return text, msgspec.json.decode(payload, type=AttestationSummary)


def _parts(text: str, count: int) -> list[bytes]:
    prefix, *parts = text.split(".") if len(text) <= MAX_CREDENTIAL else [""]
    decoded = [data for part in parts if (data := decode_base64url(part))]
    if prefix != PREFIX or len(parts) != count - 1 or len(decoded) != len(parts):
        raise MalformedCredential(f"must be {PREFIX} and {count - 1} parts in base64url, joined by dots")
    return decoded


def _public(text: str, parts: list[bytes]) -> PublicCredential:
    wire = _struct(parts[0], _WirePayload, "payload")
    if wire.v != VERSION:
        raise MalformedCredential("has a version that is not 1")
    if not all(_HEX32.match(name) for name in (wire.server_id, wire.fingerprint, wire.facts_sha256)):
        raise MalformedCredential("has a hash that is not 64 lower-case hex characters")
    if len(parts[1]) != SIGNATURE_LENGTH:
        raise MalformedCredential(f"has a signature that is not {SIGNATURE_LENGTH} bytes")
    try:
        times = {name: parse_time(getattr(wire, name), name) for name in _TIMES}
    except InvalidRequest as error:
        raise MalformedCredential("has a time that is not YYYY-MM-DDTHH:MM:SSZ") from error
    payload = Payload(
        server_id=wire.server_id,
        fingerprint=wire.fingerprint,
        kind=wire.kind,
        level=wire.level,
        binding=wire.binding,
        app=wire.app,
        **times,
    )
    return PublicCredential(text, payload, wire.facts_sha256, signed_bytes.device_credential(parts[0]), parts[1])


def _struct(text: bytes, kind: type[T], name: str) -> T:
    """A part as that type, if it is its own canonical JSON."""
    try:
        value = strict_json.parse(text)
        if canonical(value) == text:
            return msgspec.convert(value, kind)
    except (InvalidRequest, NotCanonical, msgspec.ValidationError) as error:
        raise MalformedCredential(f"has {name} that are not of the documented form") from error
    raise MalformedCredential(f"has {name} that are not canonical JSON")
