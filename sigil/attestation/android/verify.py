"""A statement of the kind android-key: every check in its order (docs/protocol.md, 5.6).

An emulator's root decides its level, never what the chain claims: the private keys of these roots are public, so that
nothing under them is more than a claim.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Literal

from sigil.attestation.android.key_description import (
    EXTENSION,
    ApplicationId,
    Authorizations,
    KeyDescription,
    read_application_id,
    read_key_description,
)
from sigil.attestation.certificates.chain import (
    ORGANIZATION,
    SERIAL_NUMBER,
    TITLE,
    Walk,
    anchored,
    linking,
    p256_wire,
    reading,
    test_roots,
)
from sigil.attestation.encoding.der import DerError
from sigil.attestation.statements import Attested, Check, Checks, Expected, Facts, Level, Rejected
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.attestation import AndroidAttestation

_LEVELS: dict[int, tuple[Level, str]] = {1: ("hardware", "TEE"), 2: ("secure_element", "StrongBox")}
_GENERATED, _SIGN, _VERIFY, _EC, _P256, _SHA256 = 0, 2, 3, 3, 1, 4
_BOOT_STATES: dict[int, Literal["verified", "self_signed"]] = {0: "verified", 1: "self_signed"}
# Android cannot name the application while its package manager is not ready.
_UNKNOWN_APPLICATIONS = ("UnknownApplication", "UnknownPackage")


def verify(statement: AndroidAttestation, expected: Expected) -> Checks:
    """Raises Rejected itself where a check failed whose result the next ones need."""
    chain = yield from reading(statement.x5c)
    walk = anchored(chain, expected.anchors.android)
    software = None if walk else anchored(chain, expected.anchors.android_software)
    found = walk or software
    yield Check("root", found is not None, "root", "hardware" if walk else "emulator" if software else "unknown")
    if found is None:
        raise Rejected("root", "root")
    if software:
        yield Check("software_root", expected.policy.allow_emulators, "emulator", "SIGIL_ALLOW_EMULATORS")

    yield from _chain_checks(found, expected, emulator=bool(software))
    leaf = found.certificates[0]
    try:
        description = read_key_description(leaf.extensions[EXTENSION])
        named = description.software.application_id
        application = ApplicationId((), ()) if named is None else read_application_id(named)
    except (KeyError, DerError) as error:
        yield Check("key_description", False, "malformed", str(error) if isinstance(error, DerError) else "absent")
        raise Rejected("malformed", "key_description") from error
    yield Check("key_description", True, "malformed")

    serials = tuple(certificate.serial_hex for certificate in found.certificates)
    listed = [serial for serial in serials if expected.revoked(serial)]
    yield Check("status_list", not listed, "revoked", " ".join(listed))

    level: Level = "emulator"
    if not software:
        claimed = (description.attestation_level, description.keymint_level)
        known = claimed[0] == claimed[1] and claimed[0] in _LEVELS
        yield Check("security_level", known, "level", "{} and {}".format(*claimed))
        level, name = _LEVELS[claimed[0] if known else 1]
        yield Check("level_of_the_chain", not known or _chain_names(found, name), "level", name)

    key = encode_base64(expected.device_key.wire) if statement.witness else ""
    yield Check("challenge", hmac.compare_digest(description.challenge, expected.digest(key)), "challenge")
    if not software:
        yield from _hardware_checks(description)
    yield from _application_checks(application)
    app = f"{application.packages[0]}:{application.digests[0].hex()}"
    if statement.witness:
        # An app vouches for its own key, which hardware attested once. The signing certificate may have been rotated:
        # whether the new one is the operator's is a setting, as above.
        previous = expected.previous
        yield Check("witness_of_a_direct_key", previous is not None and previous.binding == "direct", "kind")
        same = previous is not None and previous.app.partition(":")[0] == application.packages[0]
        yield Check("same_app", same, "app", app)
    else:
        yield Check("leaf_key", p256_wire(leaf.spki) == expected.device_key.wire, "key_properties")
    facts = _facts(description, serials, test_roots(found, expected.policy.test_roots))
    return Attested("android-key", level, "witness" if statement.witness else "direct", app, facts)


def _chain_checks(walk: Walk, expected: Expected, *, emulator: bool) -> Iterator[Check]:
    factory = _is_factory(walk)
    # Some factories gave the attesting certificate no basicConstraints. Remote provisioning also certifies virtual
    # machines, whose keys are their owner's: there the CA flag alone tells them apart.
    yield from linking(walk, bare_issuer=factory and not emulator)
    # The leaf's dates are set on the phone. Those of factory chains end before the phone does.
    current = emulator or all(each.valid(expected.now, expires=not factory) for each in walk.certificates[1:])
    yield Check("dates", current, "chain")
    # Otherwise the attested key, which an app controls, could certify a key that is not in hardware.
    others = any(EXTENSION in certificate.extensions for certificate in walk.certificates[1:])
    yield Check("target_is_the_leaf", not others, "chain")


def _hardware_checks(description: KeyDescription) -> Iterator[Check]:
    """Only of the list that hardware enforces: the other one is the operating system's word."""
    key = description.hardware
    yield Check("origin", key.origin == _GENERATED, "key_properties", str(key.origin))
    purposes = key.purposes or frozenset()
    yield Check("purpose", _SIGN in purposes <= {_SIGN, _VERIFY}, "key_properties", str(sorted(purposes)))
    yield Check("algorithm", (key.algorithm, key.curve) == (_EC, _P256), "key_properties")
    yield Check("digest", _SHA256 in (key.digests or ()), "key_properties")
    shared = key.all_applications or description.software.all_applications
    yield Check("one_application", not shared, "key_properties")
    trust = key.root_of_trust
    yield Check("locked", trust is not None and trust.locked, "boot_state")
    state = trust.boot_state if trust else None
    yield Check("verified_boot", state in _BOOT_STATES, "boot_state", str(state))


def _application_checks(application: ApplicationId) -> Iterator[Check]:
    """Which application is the operator's is a setting, applied to the credential at each use."""
    unknown = any(name in _UNKNOWN_APPLICATIONS for name in application.packages)
    yield Check("app_known", not unknown, "app_unknown", "restart the phone" if unknown else "")
    one = len(application.packages) == 1 and [len(digest) for digest in application.digests] == [32]
    yield Check("one_app", one, "app", " ".join(application.packages))
    if not (application.packages and application.digests):
        raise Rejected("app", "one_app")


def _is_factory(walk: Walk) -> bool:
    """Google names factory intermediates by a serialNumber; those of remote provisioning are Google LLC's."""
    return bool(walk.certificates[-1].named(SERIAL_NUMBER))


def _chain_names(walk: Walk, name: str) -> bool:
    """Whether the certificates name the level. Remote provisioning states it in the attesting certificate; factory
    chains name StrongBox alone reliably.
    """
    if _is_factory(walk):
        return name == "TEE" or any(name in each.named(TITLE) for each in walk.certificates[1:])
    return walk.certificates[1].named(ORGANIZATION) == [name]


def _facts(description: KeyDescription, serials: tuple[str, ...], roots: tuple[str, ...]) -> Facts:
    key: Authorizations = description.hardware
    trust = key.root_of_trust
    return Facts(
        patch=key.patch if key.patch and 200_000 < key.patch < 1_000_000 else None,
        boot=_BOOT_STATES.get(trust.boot_state) if trust else None,
        boot_key=trust.boot_key.hex() if trust else None,
        user_auth=not key.no_auth_required and bool(key.user_auth_type),
        serials=serials,
        test_roots=roots,
    )
