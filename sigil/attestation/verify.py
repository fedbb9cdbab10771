"""Each kind of statement and its verifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from sigil.attestation.statements import Attested, Checks, Expected, Kind, Rejected, run
from sigil.protocol.messages.attestation import AndroidAttestation, AppleAssertion, Statement, YubikeyAttestation

Verifier = Callable[[Any, Expected], Checks]
Verifiers = Mapping[str, Verifier]
"""By the member `kind` of a statement."""


def verifiers() -> Verifiers:
    """Of every kind that this version knows."""
    # Imported here: a server that accepts no kind saves them.
    from sigil.attestation import yubikey
    from sigil.attestation.android import verify as android
    from sigil.attestation.apple import assertion
    from sigil.attestation.apple import verify as apple

    return {
        "android-key": android.verify,
        "apple-appattest": apple.verify,
        "apple-assertion": assertion.verify,
        "yubikey-piv": yubikey.verify,
    }


def kind_of(statement: Statement) -> str:
    """The member `kind`: of a renewal `apple-assertion`, which is no kind of a credential."""
    return str(statement.__struct_config__.tag)


def credential_kind(statement: Statement) -> Kind:
    """The kind of the credential that the statement gives or renews."""
    return "apple-appattest" if isinstance(statement, AppleAssertion) else cast(Kind, kind_of(statement))


def is_renewal(statement: Statement) -> bool:
    """Whether the statement proves something only together with an earlier credential."""
    return isinstance(statement, AppleAssertion) or (isinstance(statement, AndroidAttestation) and statement.witness)


def holds_signing_key(statement: Statement) -> bool:
    """Whether the attested certificate holds the device's own key; otherwise an app or another key vouches for it."""
    return isinstance(statement, YubikeyAttestation) or (
        isinstance(statement, AndroidAttestation) and not statement.witness
    )


def verified(statement: Statement, expected: Expected, verifiers: Verifiers) -> Attested:
    """What the statement proves. Rejected: the first check that failed."""
    verifier = verifiers.get(kind_of(statement))
    if verifier is None:
        raise Rejected("kind", "kind_known")
    return run(verifier(statement, expected))
