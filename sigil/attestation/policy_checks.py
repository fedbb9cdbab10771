"""The operator's policy, applied to the facts of a credential at each use: a stricter setting acts at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import LEVELS, Attested, Check, Facts, Rejected

# Apple's App Store and TestFlight; older systems state no category.
_PRODUCTION_CATEGORIES = (None, 2, 4)


def policy_checks(attested: Attested, policy: AttestationPolicy, revoked: Callable[[str], bool]) -> Iterator[Check]:
    """Every setting against what was proved. An absent fact fails a policy that needs it."""
    yield Check("kind_accepted", attested.kind in policy.kinds, "kind", attested.kind)
    if attested.facts.test_roots:
        # The holder of a test root can forge any device: without the root, none of its credentials counts.
        listed = {hashlib.sha256(root).hexdigest() for root in policy.test_roots}
        yield Check("test_roots", listed.issuperset(attested.facts.test_roots), "root", "SIGIL_ATTESTATION_ROOTS")
    yield Check("emulator_allowed", attested.level != "emulator" or policy.allow_emulators, "emulator", attested.level)
    match attested.kind:
        case "apple-appattest":
            yield from _apple(attested, policy)
        case "android-key":
            yield from _android(attested, policy, revoked)
        case "yubikey-piv":
            yield from _yubikey(attested.facts, policy)


def check_attested(attested: Attested, policy: AttestationPolicy, revoked: Callable[[str], bool]) -> None:
    """Rejected: the first setting that the facts do not satisfy."""
    for check in policy_checks(attested, policy, revoked):
        if not check.ok:
            raise Rejected(check.reason, check.name)


def listable_serials(attested: Attested) -> tuple[str, ...]:
    """Of the certificates behind a credential that Android's status list may name; it lists those of Android alone."""
    if attested.kind != "android-key":
        return ()
    return (*attested.facts.serials, *attested.facts.first_serials)


def _apple(attested: Attested, policy: AttestationPolicy) -> Iterator[Check]:
    facts = attested.facts
    yield Check("app_configured", attested.app in policy.apple_apps, "app", attested.app)
    same = facts.environment == policy.apple_environment
    yield Check("environment", same, "environment", str(facts.environment))
    fits = policy.apple_environment == "development" or facts.category in _PRODUCTION_CATEGORIES
    yield Check("category", fits, "environment", str(facts.category))


def _android(attested: Attested, policy: AttestationPolicy, revoked: Callable[[str], bool]) -> Iterator[Check]:
    facts = attested.facts
    yield Check("app_configured", attested.app in policy.android_app_names, "app", attested.app)
    listed = sum(map(revoked, listable_serials(attested)))
    yield Check("status_list", bool(facts.serials) and not listed, "revoked", f"{listed} revoked")
    if attested.level == "emulator":
        # An emulator has no hardware that could state the rest.
        return
    enough = LEVELS.index(attested.level) >= LEVELS.index(policy.android_min_level)
    yield Check("level", enough, "level", attested.level)
    trusted = facts.boot == "verified" or (facts.boot == "self_signed" and facts.boot_key in policy.android_boot_keys)
    yield Check("boot_state", trusted, "boot_state", f"{facts.boot} {facts.boot_key}")
    if policy.android_min_patch:
        recent = facts.patch is not None and facts.patch >= policy.android_min_patch
        yield Check("patch", recent, "patch", str(facts.patch))
    if policy.android_user_auth:
        yield Check("user_auth", facts.user_auth is True, "key_properties", str(facts.user_auth))


def _yubikey(facts: Facts, policy: AttestationPolicy) -> Iterator[Check]:
    recent = facts.firmware is not None and facts.firmware >= policy.yubikey_min_firmware
    yield Check("firmware", recent, "patch", ".".join(map(str, facts.firmware or ())))
