"""What sound statements prove, a policy that accepts them, and a verifier that returns what the test wants."""

from __future__ import annotations

from typing import Any

import msgspec

from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import Attested, Check, Checks, Expected, Facts

APP = "ABCDE12345.org.example.sigil"
SIGNER = bytes(range(32))
POLICY = AttestationPolicy(
    kinds=frozenset({"android-key", "apple-appattest", "yubikey-piv"}),
    apple_apps=(APP,),
    android_apps=(("org.example.sigil", SIGNER),),
)
ANDROID = Attested(
    "android-key",
    "hardware",
    "direct",
    f"org.example.sigil:{SIGNER.hex()}",
    Facts(patch=202601, boot="verified", boot_key="ab" * 32, user_auth=True, serials=("1a", "2b")),
)
APPLE = Attested(
    "apple-appattest",
    "hardware",
    "witness",
    APP,
    Facts(environment="production", category=4, app_attest_key="A" * 44, counter=0, serials=("1a", "2b")),
)
YUBIKEY = Attested("yubikey-piv", "secure_element", "direct", "", Facts(firmware=(5, 7, 1), user_auth=True))


def with_facts(attested: Attested, **facts: Any) -> Attested:
    return attested._replace(facts=msgspec.structs.replace(attested.facts, **facts))


class Verifier:
    """Returns `result`, and remembers what it was given. The digest is checked where the statement has one."""

    def __init__(self, result: Attested) -> None:
        self.result = result
        self.expected: list[Expected] = []

    def __call__(self, _statement: Any, expected: Expected) -> Checks:
        self.expected.append(expected)
        yield Check("stand_in", True, "chain")
        return self.result
