"""Types that all kinds of attestation share: what a verifier gets, the checks that it yields, what it returns.

A verifier is a generator of checks that returns an `Attested`. `run` stops at the first check that fails; `sigil attest
explain` prints all of them. So there is one list of checks per kind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

from sigil.attestation.policy import AttestationPolicy
from sigil.protocol.device_credential import Facts
from sigil.protocol.errors import AttestationReason as Reason
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import LEVELS, Binding, Kind, Level

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "LEVELS",
    "Anchors",
    "Attested",
    "Binding",
    "Check",
    "Checks",
    "Expected",
    "Facts",
    "Kind",
    "Level",
    "Reason",
    "Rejected",
    "run",
]


class Rejected(Exception):
    """`reason` is for the caller. `check` names the check that failed, for the log and `sigil attest explain`."""

    def __init__(self, reason: Reason, check: str) -> None:
        self.reason: Reason = reason
        self.check = check
        super().__init__(f"{reason}: {check}")


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
