"""The operator's settings of attestation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sigil.protocol.messages.attestation import Kind


@dataclass(frozen=True)
class AttestationPolicy:
    """The settings of attestation. Nothing is accepted by default.

    apple_apps: "TEAM.bundle". android_apps: (package, SHA-256 of its signing certificate). android_min_patch: YYYYMM,
    0 for none. android_boot_keys: lower-case hex, of trusted operating systems. credentials_not_before:
    Unix seconds. revoked_devices: fingerprints. status_strict: no new Android attestation with an old status list.
    test_roots: DER.
    """

    required: bool = False
    allow_emulators: bool = False
    kinds: frozenset[Kind] = frozenset()
    apple_apps: tuple[str, ...] = ()
    apple_environment: Literal["production", "development"] = "production"
    android_apps: tuple[tuple[str, bytes], ...] = ()
    android_min_level: Literal["hardware", "secure_element"] = "hardware"
    android_min_patch: int = 0
    android_user_auth: bool = False
    android_boot_keys: frozenset[str] = frozenset()
    yubikey_min_firmware: tuple[int, int, int] = (5, 7, 0)
    credential_days: int = 90
    credentials_not_before: int = 0
    revoked_devices: frozenset[str] = frozenset()
    status_strict: bool = False
    test_roots: tuple[bytes, ...] = ()

    @cached_property
    def android_app_names(self) -> frozenset[str]:
        """As `Attested.app` has them."""
        return frozenset(f"{package}:{digest.hex()}" for package, digest in self.android_apps)
