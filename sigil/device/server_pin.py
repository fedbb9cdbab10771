"""The server that a device was enrolled with, and the checks before it is pinned (docs/protocol.md, 1 and 5.1)."""

from __future__ import annotations

import hmac

import msgspec

from sigil.device.errors import (
    KeysSignatureInvalid,
    MalformedInfo,
    PinMismatch,
    ServerIdMismatch,
    ServerKeysDisagree,
    ServerKeyUnusable,
    ServerNotReady,
)
from sigil.device.http.origin import base_url as normalised
from sigil.device.http.tls import TlsTrust
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import NotCanonical
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.errors import InvalidPublicKey, InvalidRequest
from sigil.protocol.keys import SIGNATURE_LENGTH, SUITES, PublicKey, Suite
from sigil.protocol.messages.decoding import decode
from sigil.protocol.messages.server import Info


class ServerPin(msgspec.Struct, frozen=True, kw_only=True):
    """The pinned identity of a server. `base_url` is a normalised origin; keys are base64, by suite."""

    base_url: str
    server_id: str
    server_public_keys: dict[str, str]
    server_name: str = ""
    tls: TlsTrust = TlsTrust()

    def key(self, suite: Suite) -> PublicKey:
        """The pinned key of a suite; ServerKeyUnusable."""
        return _key(self.server_public_keys, suite)


class _Mode(msgspec.Struct, frozen=True):
    mode: str = "operational"


def verify_info(info: bytes, base_url: str, *, pin: str | None = None, tls: TlsTrust | None = None) -> ServerPin:
    """The pin of a server whose `/info` is `info`; IdentityRefused, AddressRefused.

    `pin` is the full server_id, received out of band; without it a person must compare the server_id.
    """
    decoded = _decoded(info)
    keys = {suite: _key(decoded.server_public_keys, suite) for suite in SUITES}
    if decoded.server_public_keys["ES256"] != decoded.server_public_key:
        raise ServerKeysDisagree
    if keys["ES256"].fingerprint != decoded.server_id:
        raise ServerIdMismatch
    _check_keys_signature(decoded, keys["ES256"])
    # The full server_id: the pictogram is 30 bits, and a key with the same pictogram is found in minutes.
    if pin is not None and not hmac.compare_digest(pin.encode(), decoded.server_id.encode()):
        raise PinMismatch(f"{PinMismatch.summary} Its server_id is {decoded.server_id}.")
    return ServerPin(
        base_url=normalised(base_url),
        server_id=decoded.server_id,
        server_public_keys={suite: decoded.server_public_keys[suite] for suite in SUITES},
        server_name=decoded.server_name,
        tls=tls or TlsTrust(),
    )


def _decoded(info: bytes) -> Info:
    try:
        # In init mode most members are missing: report the mode, not the first missing member.
        if decode(info, _Mode).mode == "init":
            raise ServerNotReady
        return decode(info, Info)
    except InvalidRequest as error:
        raise MalformedInfo(f"{MalformedInfo.summary} {error.message} ({error.details['path']})") from error


def _key(keys: dict[str, str], suite: Suite) -> PublicKey:
    try:
        key = PublicKey.parse(decode_base64(keys[suite], f"$.server_public_keys.{suite}"))
    except (KeyError, InvalidRequest, InvalidPublicKey) as error:
        raise ServerKeyUnusable(f"The server's {suite} key is missing or malformed.") from error
    if key.suite != suite:
        raise ServerKeyUnusable(f"The server's {suite} key is a {key.suite} key.")
    return key


def _check_keys_signature(info: Info, es256: PublicKey) -> None:
    try:
        signature = decode_base64(info.keys_signature, "$.keys_signature", length=SIGNATURE_LENGTH)
        good = es256.verify(signed_bytes.server_keys(info.server_public_keys), signature)
    except (InvalidRequest, NotCanonical) as error:
        raise KeysSignatureInvalid from error
    if not good:
        raise KeysSignatureInvalid
