"""Every case of `python -m deploy.attestation list` gets its reason, from the verifier or from the policy after it."""

from __future__ import annotations

import msgspec
import pytest

from deploy.attestation.hostile import CASES
from sigil.attestation.android.verify import verify as verify_android
from sigil.attestation.apple.assertion import verify as verify_assertion
from sigil.attestation.apple.verify import verify as verify_apple
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import check_attested
from sigil.attestation.statements import Rejected, run
from sigil.attestation.yubikey import verify as verify_yubikey
from sigil.device.test_phone import phones
from sigil.protocol.messages.attestation import Statement
from tests.attestation.support import DEVICE, NOW, ROOT, digest_for, expected, statement_of

POLICY = AttestationPolicy(
    kinds=frozenset({"android-key", "apple-appattest", "yubikey-piv"}),
    apple_apps=("ABCDE12345.org.example.sigil",),
    android_apps=(("org.example.sigil", bytes(range(32))),),
)
VERIFIERS = {
    "apple-appattest": verify_apple,
    "apple-assertion": verify_assertion,
    "android-key": verify_android,
    "yubikey-piv": verify_yubikey,
}


def _verify(statement: Statement) -> None:
    verifier = VERIFIERS[str(statement.__struct_config__.tag)]
    check_attested(run(verifier(statement, expected(policy=POLICY))), POLICY, lambda _serial: False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", phones.NAMES)
def test_the_sound_phone_that_each_case_forges_is_accepted(name: str) -> None:
    _verify(statement_of(phones.phone(name, ROOT, DEVICE, now=NOW).statement(digest_for)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_hostile_attestation_gets_its_reason(name: str) -> None:
    case = CASES[name]
    sent = case.statement(ROOT, DEVICE, digest_for, now=NOW)
    if not case.reason:
        with pytest.raises(msgspec.ValidationError):
            statement_of(sent)
        return
    with pytest.raises(Rejected) as rejected:
        _verify(statement_of(sent))
    assert rejected.value.reason == case.reason, rejected.value.check
