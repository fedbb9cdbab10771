"""Types that all kinds of attestation share: what a verifier gets, the checks that it yields, what it returns.

A verifier is a generator of checks that returns an `Attested`. `run` stops at the first check that fails; `sigil attest
explain` prints all of them. So there is one list of checks per kind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from sigil.protocol.keys import PublicKey

if TYPE_CHECKING:
    from cryptography import x509

    from sigil.attestation.policy import AttestationPolicy

Kind = Literal["android-key", "apple-appattest", "yubikey-piv"]
"""Of a credential. The renewal statement `apple-assertion` gives the kind `apple-appattest`."""
Level = Literal["emulator", "hardware", "secure_element"]
LEVELS: tuple[Level, ...] = ("emulator", "hardware", "secure_element")
"""From the lowest to the highest."""
Binding = Literal["direct", "witness"]
"""direct: the certificate holds the signing key. witness: an attested key or app vouches for it."""
Reason = Literal[
    "malformed",
    "chain",
    "root",
    "revoked",
    "challenge",
    "app",
    "app_unknown",
    "environment",
    "level",
    "boot_state",
    "key_properties",
    "patch",
    "emulator",
    "kind",
    "expired",
]
"""`details.reason` of ATTESTATION_INVALID (docs/protocol.md, section 4)."""


class Rejected(Exception):
    """`reason` is for the caller. `check` names the check that failed, for the log and `sigil attest explain`."""

    def __init__(self, reason: Reason, check: str) -> None:
        self.reason: Reason = reason
        self.check = check
        super().__init__(f"{reason}: {check}")


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


class Attested(NamedTuple):
    """What a statement proves about a key. `app`: "TEAM.bundle", "package:digest" (SHA-256, hex), or "" (YubiKey)."""

    kind: Kind
    level: Level
    binding: Binding
    app: str
    facts: Facts


class Anchors(NamedTuple):
    """Roots per kind. A root counts by its public key (SPKI), never by its certificate or dates."""

    apple: tuple[x509.Certificate, ...] = ()
    android: tuple[x509.Certificate, ...] = ()
    android_software: tuple[x509.Certificate, ...] = ()
    """Emulators: what they issue has the level `emulator`, whichever level it claims."""
    yubikey: tuple[x509.Certificate, ...] = ()


class Expected(NamedTuple):
    """What a statement is verified against.

    digest: attest_digest for the member `key`: "" when the certificate holds the signing key, else device_public_key.
    now: Unix seconds. revoked: whether Android's status list has the serial. previous: what the credential that is
    renewed proved; it has been verified, and is of the same device and kind.
    """

    digest: Callable[[str], bytes]
    device_key: PublicKey
    now: float
    policy: AttestationPolicy
    anchors: Anchors
    revoked: Callable[[str], bool] = lambda _serial: False
    previous: Attested | None = None


class Check(NamedTuple):
    """One check of a verifier, in its order. `text`: what was found, for `sigil attest explain`."""

    name: str
    ok: bool
    reason: Reason
    text: str = ""


Checks = Generator[Check, None, Attested]


def run(checks: Checks) -> Attested:
    """What the statement proves. Rejected: the first check that failed."""
    while True:
        try:
            check = next(checks)
        except StopIteration as stop:
            attested: Attested = stop.value
            return attested
        if not check.ok:
            raise Rejected(check.reason, check.name)
