"""The operator's policy, setting by setting: what satisfies it, what does not, and an absent fact."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import check_attested
from sigil.attestation.statements import Attested, Facts, Rejected
from tests.attestation.examples import ANDROID, APPLE, POLICY, YUBIKEY, with_facts

OTHER_BOOT_KEY = "ee" * 32


def rejected(attested: Attested, policy: AttestationPolicy, revoked: Any = lambda serial: False) -> str:
    try:
        check_attested(attested, policy, revoked)
    except Rejected as error:
        return error.reason
    return ""


def policy(**changed: Any) -> AttestationPolicy:
    return POLICY.__class__(**{**{name: getattr(POLICY, name) for name in POLICY.__dataclass_fields__}, **changed})


@pytest.mark.parametrize("attested", [ANDROID, APPLE, YUBIKEY])
def test_sound_statements_satisfy_the_policy(attested: Attested) -> None:
    assert not rejected(attested, POLICY)
    assert not rejected(attested._replace(level="secure_element"), POLICY)


def test_by_default_nothing_is_accepted() -> None:
    for attested in (ANDROID, APPLE, YUBIKEY):
        assert rejected(attested, AttestationPolicy()) == "kind"


@pytest.mark.parametrize("attested", [ANDROID, APPLE, YUBIKEY])
def test_a_kind_that_is_no_longer_accepted_is_rejected(attested: Attested) -> None:
    assert rejected(attested, policy(kinds=POLICY.kinds - {attested.kind})) == "kind"


@pytest.mark.parametrize("attested", [ANDROID, APPLE, YUBIKEY])
def test_an_emulator_counts_only_where_it_is_allowed(attested: Attested) -> None:
    emulator = attested._replace(level="emulator")
    assert rejected(emulator, POLICY) == "emulator"
    assert not rejected(emulator, policy(allow_emulators=True))


def test_an_emulator_states_nothing_but_its_app_and_chain() -> None:
    bare = ANDROID._replace(level="emulator", facts=Facts(serials=("1a",)))
    allowed = policy(allow_emulators=True, android_min_patch=202601, android_user_auth=True)
    assert not rejected(bare, allowed)
    assert rejected(bare._replace(app="org.other:" + "00" * 32), allowed) == "app"


CASES = [
    (ANDROID._replace(app="org.example.sigil:" + "ff" * 32), {}, "app"),
    (ANDROID._replace(app="org.example.sigil"), {}, "app"),
    (ANDROID, {"android_apps": ()}, "app"),
    (ANDROID, {"android_min_level": "secure_element"}, "level"),
    (with_facts(ANDROID, boot=None), {}, "boot_state"),
    (with_facts(ANDROID, boot="self_signed"), {}, "boot_state"),
    (
        with_facts(ANDROID, boot="self_signed", boot_key=None),
        {"android_boot_keys": frozenset({"ab" * 32})},
        "boot_state",
    ),
    (
        with_facts(ANDROID, boot="self_signed", boot_key=OTHER_BOOT_KEY),
        {"android_boot_keys": frozenset({"ab" * 32})},
        "boot_state",
    ),
    (
        with_facts(ANDROID, boot="self_signed", boot_key=OTHER_BOOT_KEY),
        {"android_boot_keys": frozenset({OTHER_BOOT_KEY})},
        "",
    ),
    (with_facts(ANDROID, patch=202510), {"android_min_patch": 202511}, "patch"),
    (with_facts(ANDROID, patch=202511), {"android_min_patch": 202511}, ""),
    (with_facts(ANDROID, patch=None), {"android_min_patch": 202511}, "patch"),
    (with_facts(ANDROID, patch=None), {}, ""),
    (with_facts(ANDROID, user_auth=False), {"android_user_auth": True}, "key_properties"),
    (with_facts(ANDROID, user_auth=None), {"android_user_auth": True}, "key_properties"),
    (with_facts(ANDROID, user_auth=None), {}, ""),
    (with_facts(ANDROID, serials=()), {}, "revoked"),
    (APPLE._replace(app="ABCDE12345.org.other"), {}, "app"),
    (APPLE, {"apple_apps": ()}, "app"),
    (APPLE, {"apple_environment": "development"}, "environment"),
    (with_facts(APPLE, environment="development"), {}, "environment"),
    (with_facts(APPLE, environment=None), {}, "environment"),
    (with_facts(APPLE, category=1), {}, "environment"),
    (with_facts(APPLE, category=3), {}, "environment"),
    (with_facts(APPLE, category=2), {}, ""),
    (with_facts(APPLE, category=None), {}, ""),
    (with_facts(APPLE, environment="development", category=3), {"apple_environment": "development"}, ""),
    (with_facts(YUBIKEY, firmware=(5, 6, 9)), {}, "patch"),
    (with_facts(YUBIKEY, firmware=(5, 7, 0)), {}, ""),
    (with_facts(YUBIKEY, firmware=(5, 10, 0)), {}, ""),
    (with_facts(YUBIKEY, firmware=None), {}, "patch"),
    (with_facts(YUBIKEY, firmware=(5, 7, 1)), {"yubikey_min_firmware": (5, 7, 2)}, "patch"),
]


@pytest.mark.parametrize(("attested", "settings", "reason"), CASES)
def test_every_setting_is_applied_to_the_facts(attested: Attested, settings: dict[str, Any], reason: str) -> None:
    assert rejected(attested, policy(**settings)) == reason


def test_a_revoked_serial_of_any_certificate_rejects_android_alone() -> None:
    for serial in ("1a", "2b"):
        assert rejected(ANDROID, POLICY, {serial}.__contains__) == "revoked"
        assert not rejected(with_facts(APPLE, serials=("1a", "2b")), POLICY, {serial}.__contains__)
        assert not rejected(with_facts(YUBIKEY, serials=("1a", "2b")), POLICY, {serial}.__contains__)
    renewed = with_facts(ANDROID, serials=("3c",), first_serials=("4d",))
    assert rejected(renewed, POLICY, {"4d"}.__contains__) == "revoked"
    assert not rejected(renewed, POLICY, {"1a"}.__contains__)


def test_an_unknown_fact_is_ignored_and_survives_nothing() -> None:
    facts = msgspec.convert({"patch": 202601, "of_a_newer_server": 1}, Facts)
    assert facts == Facts(patch=202601)
