"""An Android phone: Key Attestation of KeyMint, as RKP or as the factory certifies it, or of an emulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sigil.device.attestation import DigestFor
from sigil.device.test_phone import der
from sigil.device.test_phone.certificates import (
    COMMON_NAME,
    DAY,
    ORGANIZATION,
    SERIAL_NUMBER,
    TITLE,
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

KEY_DESCRIPTION = "1.3.6.1.4.1.11129.2.1.17"
_YEAR = 365 * DAY


@dataclass(frozen=True, kw_only=True)
class AndroidFields:
    """What the phone claims. The defaults are those of a sound phone.

    root: `hardware`, or `software` for an emulator. chain: who certifies the attestation key. patch: YYYYMM.
    boot_state: 0 verified, 1 self-signed, 2 unverified, 3 failed. software: names of fields that the phone lists as
    enforced by software alone. challenge, app_id, key_description: bytes in place of the right ones. signers: SHA-256
    of signing certificates. Of the certificates: `leaf_` fields are of the attested key's, `batch_` of its issuer's.
    batch_ca: None leaves the extension out.
    """

    root: Literal["hardware", "software"] = "hardware"
    chain: Literal["rkp", "factory"] = "rkp"
    level: Literal["software", "hardware", "secure_element"] = "hardware"
    keymint_level: Literal["software", "hardware", "secure_element"] | None = None
    chain_level: str | None = None
    version: int = 400
    package: str = "org.example.sigil"
    more_packages: tuple[str, ...] = ()
    signers: tuple[bytes, ...] = (bytes(range(32)),)
    app_id: bytes | None = None
    challenge: bytes | None = None
    unique_id: bytes = b""
    patch: int | None = 202611
    os_version: int | None = 160000
    boot_state: int = 0
    boot_key: bytes = bytes(range(32, 64))
    locked: bytes = b"\xff"
    root_of_trust: bool = True
    origin: int | None = 0
    purposes: tuple[int, ...] | None = (2,)
    algorithm: int | None = 3
    curve: int | None = 1
    digests: tuple[int, ...] | None = (4,)
    key_size: int | None = 256
    all_applications: bool = False
    user_auth_type: int | None = None
    software: tuple[str, ...] = ()
    key_description: bytes | None = None
    key_description_trailing: bytes = b""
    leaf_critical: tuple[bytes, ...] = ()
    leaf_extensions: tuple[bytes, ...] = ()
    leaf_trailing: bytes = b""
    leaf_not_before: int | None = None
    leaf_not_after: int | None = None
    leaf_serial: int | None = 1
    leaf_key: Literal["device", "other"] = "device"
    leaf_broken_signature: bool = False
    batch_serial: int | None = None
    batch_not_before: int | None = None
    batch_not_after: int | None = None
    batch_ca: bool | None = True
    batch_key_description: bool = False
    batch_issuer_name: bytes | None = None
    batch_broken_signature: bool = False
    intermediate_serial: int | None = None
    intermediate_not_after: int | None = None
    with_root: bool = True
    after_target: bool = False
    order: Literal["right", "reversed"] = "right"
    extra: tuple[bytes, ...] = ()
    witness: bool = False
    now: int | None = None


@dataclass(frozen=True)
class AndroidPhone:
    """Attests `device`, whose key the leaf holds, or with `witness` a key of the phone's own."""

    test_root: TestRoot
    device: PublicKey
    fields: AndroidFields = AndroidFields()

    def statement(self, digest_for: DigestFor) -> dict[str, Any]:
        """The `attestation` object of the wire, kind android-key."""
        key = encode_base64(self.device.wire) if self.fields.witness else ""
        chain = self.chain(digest_for("android-key", key))
        x5c = [encode_base64(certificate) for certificate in chain]
        return {"kind": "android-key", "x5c": x5c, "witness": self.fields.witness}

    def chain(self, digest: bytes) -> list[bytes]:
        """The certificates in DER, the leaf first."""
        f = self.fields
        root_kind = f"android-{f.root}"
        root = self.test_root.authority(root_kind)
        middle_key, batch_key = new_key(), new_key()
        middle_subject, batch_subject = self._subjects
        middle = Certificate(
            subject=middle_subject,
            public_key=middle_key.public_key(),
            serial=f.intermediate_serial,
            not_after=f.intermediate_not_after,
            extensions=[ca_extension()],
            signature_hash="sha256",
        )
        batch_extensions = [] if f.batch_ca is None else [ca_extension(f.batch_ca)]
        if f.batch_key_description:
            batch_extensions.append(self._extension(digest))
        batch = Certificate(
            subject=batch_subject,
            public_key=batch_key.public_key(),
            serial=f.batch_serial,
            not_before=f.batch_not_before,
            not_after=f.batch_not_after,
            extensions=batch_extensions,
            issuer_name=f.batch_issuer_name,
            broken_signature=f.batch_broken_signature,
        )
        leaf = Certificate(
            subject=der.name((COMMON_NAME, "Android Keystore Key")),
            public_key=self._leaf_key,
            serial=f.leaf_serial,
            # Real phones write 1970 and 2048, or a clock that was never set.
            not_before=0 if f.leaf_not_before is None else f.leaf_not_before,
            not_after=2461449600 if f.leaf_not_after is None else f.leaf_not_after,
            extensions=[*([] if f.batch_key_description else [self._extension(digest)]), *f.leaf_extensions],
            broken_signature=f.leaf_broken_signature,
            trailing=f.leaf_trailing,
        )
        middle_ca, batch_ca = Authority(middle_subject, middle_key), Authority(batch_subject, batch_key)
        chain = [leaf.issued(batch_ca, f.now), batch.issued(middle_ca, f.now), middle.issued(root, f.now)]
        if f.after_target:
            # A key in hardware signs a certificate for a key that is not: the KeyDescription is then not the leaf's.
            target_key = new_key()
            target = leaf.changed(public_key=target_key.public_key()).issued(batch_ca, f.now)
            target_ca = Authority(leaf.subject, target_key)
            forged = leaf.changed(extensions=[]).issued(target_ca, f.now)
            chain = [forged, target, *chain[1:]]
        if f.with_root:
            chain.append(self.test_root.certificate[root_kind])
        chain += f.extra
        return chain[::-1] if f.order == "reversed" else chain

    @property
    def _subjects(self) -> tuple[bytes, bytes]:
        """Of the intermediate and of the certificate that attests keys."""
        f = self.fields
        levels = {"software": "TEE", "hardware": "TEE", "secure_element": "StrongBox"}
        named = f.chain_level if f.chain_level is not None else levels[f.level]
        if f.chain == "rkp":
            middle = der.name((COMMON_NAME, "Droid CA2"), (ORGANIZATION, "Google LLC"))
            return middle, der.name((COMMON_NAME, "0123456789abcdef0123456789abcdef"), (ORGANIZATION, named))
        return (
            der.name((SERIAL_NUMBER, "c6047571d8f0d17c"), (TITLE, named)),
            der.name((SERIAL_NUMBER, "90e8da3cadfc7820"), (TITLE, named)),
        )

    @cached_property
    def _leaf_key(self) -> AnyPublicKey:
        if self.fields.witness or self.fields.leaf_key == "other":
            return new_key().public_key()
        return p256(self.device.wire)

    def _extension(self, digest: bytes) -> bytes:
        f = self.fields
        value = self._key_description(digest) if f.key_description is None else f.key_description
        return der.extension(KEY_DESCRIPTION, value + f.key_description_trailing, critical=f.leaf_critical)

    def _key_description(self, digest: bytes) -> bytes:
        f = self.fields
        levels = {"software": 0, "hardware": 1, "secure_element": 2}
        entries = self._authorizations()
        software = [(tag, value) for name, tag, value in entries if name in f.software]
        hardware = [(tag, value) for name, tag, value in entries if name not in f.software]
        # The application is known to Android, not to KeyMint: it is always enforced by software.
        application = self._application_id() if f.app_id is None else f.app_id
        software += [(701, der.integer(1_700_000_000_000)), (709, der.octets(application))]
        return der.sequence(
            der.integer(f.version),
            der.enumerated(levels[f.level]),
            der.integer(f.version),
            der.enumerated(levels[f.keymint_level or f.level]),
            der.octets(digest if f.challenge is None else f.challenge),
            der.octets(f.unique_id),
            _authorization_list(software),
            _authorization_list(hardware),
        )

    def _authorizations(self) -> list[tuple[str, int, bytes]]:
        f = self.fields
        trust = der.sequence(
            der.octets(f.boot_key), der.boolean(f.locked), der.enumerated(f.boot_state), der.octets(bytes(32))
        )
        numbers = {
            "algorithm": (2, f.algorithm),
            "key_size": (3, f.key_size),
            "curve": (10, f.curve),
            "user_auth_type": (504, f.user_auth_type),
            "origin": (702, f.origin),
            "os_version": (705, f.os_version),
            "patch": (706, f.patch),
        }
        entries = [(name, tag, der.integer(value)) for name, (tag, value) in numbers.items() if value is not None]
        for name, tag, values in (("purposes", 1, f.purposes), ("digests", 5, f.digests)):
            if values is not None:
                entries.append((name, tag, der.set_of(*(der.integer(value) for value in values))))
        if f.user_auth_type is None:
            entries.append(("no_auth_required", 503, der.null()))
        if f.all_applications:
            entries.append(("all_applications", 600, der.null()))
        if f.root_of_trust:
            entries.append(("root_of_trust", 704, trust))
        return entries

    def _application_id(self) -> bytes:
        f = self.fields
        packages = (
            der.sequence(der.octets(package.encode()), der.integer(1)) for package in (f.package, *f.more_packages)
        )
        return der.sequence(der.set_of(*packages), der.set_of(*(der.octets(signer) for signer in f.signers)))


def _authorization_list(entries: Sequence[tuple[int, bytes]]) -> bytes:
    return der.sequence(*(der.explicit(tag, value) for tag, value in sorted(entries)))
