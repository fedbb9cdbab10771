"""A YubiKey: PIV attestation of the key in slot 9a, which signs approvals itself. It has no challenge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from sigil.device.attestation import DigestFor
from sigil.device.test_phone import der
from sigil.device.test_phone.certificates import (
    COMMON_NAME,
    AnyPublicKey,
    Authority,
    Certificate,
    ca_extension,
    new_key,
    p256,
)
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import PublicKey

FIRMWARE, SERIAL, POLICY = (f"1.3.6.1.4.1.41482.3.{number}" for number in (3, 7, 8))


@dataclass(frozen=True, kw_only=True)
class YubiKeyFields:
    """What the key claims. The defaults are those of a sound YubiKey.

    pin_policy: 1 never, 2 once, 3 always. touch_policy: 1 never, 2 always, 3 cached. policy, firmware_extension: bytes
    in place of the right ones. `leaf_` fields are of the certificate of slot 9a, `f9_` of its issuer's.
    """

    firmware: tuple[int, ...] = (5, 7, 1)
    firmware_extension: bytes | None = None
    with_firmware: bool = True
    pin_policy: int = 2
    touch_policy: int = 2
    policy: bytes | None = None
    with_policy: bool = True
    serial: int = 12345678
    curve: Literal["p256", "p384"] = "p256"
    leaf_key: Literal["device", "other"] = "device"
    leaf_serial: int | None = None
    leaf_not_before: int | None = None
    leaf_not_after: int | None = None
    leaf_trailing: bytes = b""
    leaf_broken_signature: bool = False
    leaf_extensions: tuple[bytes, ...] = ()
    f9_ca: bool = True
    f9_not_after: int | None = None
    f9_broken_signature: bool = False
    f9_issuer_name: bytes | None = None
    with_root: bool = False
    order: Literal["right", "reversed"] = "right"
    extra: tuple[bytes, ...] = ()
    root: Literal["apple-appattest", "android-hardware", "android-software", "yubikey-piv"] = "yubikey-piv"
    now: int | None = None


@dataclass(frozen=True)
class YubiKey:
    """Attests `device`, whose key is in slot 9a."""

    test_root: TestRoot
    device: PublicKey
    fields: YubiKeyFields = YubiKeyFields()

    def statement(self, digest_for: DigestFor) -> dict[str, Any]:
        """The `attestation` object of the wire, kind yubikey-piv. The digest is in the device's proof alone."""
        return {"kind": "yubikey-piv", "x5c": [encode_base64(certificate) for certificate in self.chain()]}

    def chain(self) -> list[bytes]:
        f = self.fields
        f9_key = new_key()
        f9_subject = der.name((COMMON_NAME, "Yubico PIV Attestation"))
        f9 = Certificate(
            subject=f9_subject,
            public_key=f9_key.public_key(),
            not_before=f.leaf_not_before,
            not_after=f.f9_not_after,
            extensions=[ca_extension(f.f9_ca)],
            broken_signature=f.f9_broken_signature,
            issuer_name=f.f9_issuer_name,
        )
        leaf = Certificate(
            subject=der.name((COMMON_NAME, "YubiKey PIV Attestation 9a")),
            public_key=self._leaf_key,
            serial=f.leaf_serial,
            not_before=f.leaf_not_before,
            not_after=f.leaf_not_after,
            extensions=[*self._extensions(), *f.leaf_extensions],
            broken_signature=f.leaf_broken_signature,
            trailing=f.leaf_trailing,
        )
        chain = [
            leaf.issued(Authority(f9_subject, f9_key), f.now),
            f9.issued(self.test_root.authority(f.root), f.now),
            *([self.test_root.certificate[f.root]] if f.with_root else []),
            *f.extra,
        ]
        return chain[::-1] if f.order == "reversed" else chain

    @property
    def _leaf_key(self) -> AnyPublicKey:
        if self.fields.curve == "p384":
            return new_key(ec.SECP384R1()).public_key()
        return p256(self.device.wire) if self.fields.leaf_key == "device" else new_key().public_key()

    def _extensions(self) -> list[bytes]:
        f = self.fields
        # The values are raw octets: Yubico wraps only the serial number in DER.
        firmware = bytes(f.firmware) if f.firmware_extension is None else f.firmware_extension
        policy = bytes((f.pin_policy, f.touch_policy)) if f.policy is None else f.policy
        return [
            *([der.extension(FIRMWARE, firmware)] if f.with_firmware else []),
            der.extension(SERIAL, der.integer(f.serial)),
            *([der.extension(POLICY, policy)] if f.with_policy else []),
        ]
