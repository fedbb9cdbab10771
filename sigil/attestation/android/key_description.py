"""KeyDescription, the extension in which Android's hardware describes a key (source.android.com, "Key attestation").

    description = read_key_description(value)      # DerError

Unknown tags are skipped: newer versions add some. A known tag of another form is refused, and so is a tag that is
listed twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sigil.attestation.encoding.der import ENUMERATED, NULL, SEQUENCE, SET, DerError, Node, context, oid, parse

EXTENSION = oid("1.3.6.1.4.1.11129.2.1.17")

# Tags of an AuthorizationList (KeyMint's Tag.aidl).
_PURPOSE, _ALGORITHM, _DIGEST, _CURVE = (context(number) for number in (1, 2, 5, 10))
_NO_AUTH_REQUIRED, _USER_AUTH_TYPE, _ALL_APPLICATIONS = (context(number) for number in (503, 504, 600))
_ORIGIN, _ROOT_OF_TRUST, _PATCH, _APPLICATION_ID = (context(number) for number in (702, 704, 706, 709))


MAX_BOOT_KEY = 64
"""Octets. The credential holds it; real ones have 32."""
_PACKAGE = re.compile(rb"[A-Za-z0-9_.]{1,255}\Z")


class RootOfTrust(NamedTuple):
    boot_key: bytes
    locked: bool
    boot_state: int
    """0 verified, 1 self-signed, 2 unverified, 3 failed."""


class Authorizations(NamedTuple):
    """What one list enforces; None and False: the tag is absent. Numbers are those of KeyMint."""

    purposes: frozenset[int] | None
    algorithm: int | None
    digests: frozenset[int] | None
    curve: int | None
    no_auth_required: bool
    user_auth_type: int | None
    all_applications: bool
    origin: int | None
    root_of_trust: RootOfTrust | None
    patch: int | None
    application_id: bytes | None


class KeyDescription(NamedTuple):
    attestation_level: int
    keymint_level: int
    """0 software, 1 trusted environment, 2 StrongBox."""
    challenge: bytes
    software: Authorizations
    hardware: Authorizations


class ApplicationId(NamedTuple):
    """The packages of one user id of Android, and the SHA-256 digests of their signing certificates."""

    packages: tuple[str, ...]
    digests: tuple[bytes, ...]


def read_key_description(value: bytes) -> KeyDescription:
    """DerError. Phones of 2026 encode deviceLocked with any octet other than zero."""
    fields = parse(value, booleans=range(256)).items(least=8, most=8)
    return KeyDescription(
        attestation_level=fields[1].integer(ENUMERATED),
        keymint_level=fields[3].integer(ENUMERATED),
        challenge=fields[4].octets(),
        software=_authorizations(fields[6]),
        hardware=_authorizations(fields[7]),
    )


def read_application_id(value: bytes) -> ApplicationId:
    """AttestationApplicationId. DerError."""
    packages, digests = parse(value).items(least=2, most=2)
    names = [package.items(least=2, most=2)[0].octets() for package in packages.items(SET)]
    if not all(_PACKAGE.match(name) for name in names):
        raise DerError("the name of a package is not one of Android")
    return ApplicationId(
        packages=tuple(name.decode() for name in names), digests=tuple(digest.octets() for digest in digests.items(SET))
    )


def _authorizations(field: Node) -> Authorizations:
    tags: dict[int, Node] = {}
    for entry in field.items():
        if entry.tag in tags:
            raise DerError("an authorization twice")
        tags[entry.tag] = entry
    return Authorizations(
        purposes=_numbers(tags, _PURPOSE),
        algorithm=_number(tags, _ALGORITHM),
        digests=_numbers(tags, _DIGEST),
        curve=_number(tags, _CURVE),
        no_auth_required=_present(tags, _NO_AUTH_REQUIRED),
        user_auth_type=_number(tags, _USER_AUTH_TYPE),
        all_applications=_present(tags, _ALL_APPLICATIONS),
        origin=_number(tags, _ORIGIN),
        root_of_trust=_root_of_trust(tags.get(_ROOT_OF_TRUST)),
        patch=_number(tags, _PATCH),
        application_id=tags[_APPLICATION_ID].children[0].octets() if _APPLICATION_ID in tags else None,
    )


def _number(tags: Mapping[int, Node], tag: int) -> int | None:
    return tags[tag].children[0].integer() if tag in tags else None


def _numbers(tags: Mapping[int, Node], tag: int) -> frozenset[int] | None:
    return frozenset(each.integer() for each in tags[tag].children[0].items(SET)) if tag in tags else None


def _present(tags: Mapping[int, Node], tag: int) -> bool:
    return tag in tags and tags[tag].children[0].of(NULL) is not None


def _root_of_trust(entry: Node | None) -> RootOfTrust | None:
    if entry is None:
        return None
    # The hash of the boot image follows from version 3 on.
    fields = entry.children[0].items(SEQUENCE, least=3, most=4)
    if len(fields[0].octets()) > MAX_BOOT_KEY:
        raise DerError("a boot key that is too long")
    return RootOfTrust(fields[0].octets(), fields[1].boolean(), fields[2].integer(ENUMERATED))
