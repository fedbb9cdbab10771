"""The settings of attestation (docs/attestation.md): which statements are accepted, and what they must prove."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sigil.attestation.policy import AttestationPolicy
from sigil.protocol.messages.attestation import KINDS, Kind
from sigil.serving.settings import EnvReader, absolute, count, https_url

T = TypeVar("T")
STATUS_URL = "https://android.googleapis.com/attestation/status"
"""Where Google publishes Android's status list."""
_MAX_ITEMS = 256
_APPLE_APP = re.compile(r"[A-Z0-9]{10}\.[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\Z")
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PATCH = re.compile(r"(20[1-9][0-9])-(0[1-9]|1[0-2])\Z")
_FIRMWARE = re.compile(r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?\Z")
# The first firmware without EUCLEAK, which gets a key out of a YubiKey.
_EUCLEAK = (5, 7, 0)


@dataclass(frozen=True)
class StatusSource:
    """Where Android's status list comes from. `path`: a file of the operator, or the one that the master writes.
    `url`: what the master fetches; None: nothing.
    """

    path: Path | None = None
    url: str | None = None


def read_attestation(r: EnvReader) -> AttestationPolicy:
    """The policy, without the revoked devices, which act with attestation off too."""
    lists = _read_lists(r)
    kinds = _kinds(r, lists)
    policy = AttestationPolicy(
        required=r.flag("SIGIL_ATTESTATION_REQUIRED", default=False),
        allow_emulators=r.flag("SIGIL_ALLOW_EMULATORS", default=False),
        kinds=kinds,
        apple_environment=r.choice(  # type: ignore[arg-type]
            "SIGIL_APPLE_ENVIRONMENT", "production", "production", "development"
        ),
        android_min_level=r.choice(  # type: ignore[arg-type]
            "SIGIL_ANDROID_MIN_LEVEL", "hardware", "hardware", "secure_element"
        ),
        android_min_patch=r.value("SIGIL_ANDROID_MIN_PATCH", 0, _patch),
        android_user_auth=r.flag("SIGIL_ANDROID_USER_AUTH", default=False),
        yubikey_min_firmware=r.value("SIGIL_YUBIKEY_MIN_FIRMWARE", _EUCLEAK, _firmware),
        credential_days=r.value("SIGIL_CREDENTIAL_DAYS", 90, count(1, 365)),
        status_strict=r.flag("SIGIL_ANDROID_STATUS_STRICT", default=False),
        test_roots=r.public_file("SIGIL_ATTESTATION_ROOTS", _certificates) or (),
    )
    policy = lists.applied(policy)
    _check_required(r, policy)
    if policy.yubikey_min_firmware < _EUCLEAK:
        r.warnings.append(
            "SIGIL_YUBIKEY_MIN_FIRMWARE: the private key of a YubiKey with firmware before 5.7.0 can be extracted "
            "(EUCLEAK): use 5.7.0 or later"
        )
    if policy.test_roots:
        r.warnings.append(
            "SIGIL_ATTESTATION_ROOTS: the holders of these roots can make a statement for any key: for tests only"
        )
    return policy


def read_status_source(r: EnvReader, state_dir: Path) -> StatusSource:
    """Without a path, the master writes the list that it fetches into the state directory."""
    path = r.value("SIGIL_ANDROID_STATUS_PATH", None, absolute)
    url = r.value("SIGIL_ANDROID_STATUS_FETCH", None, _fetch)
    if r.flag("SIGIL_ANDROID_STATUS_STRICT", default=False) and not (path or url):
        r.faults.append(
            "SIGIL_ANDROID_STATUS_STRICT: needs a status list that is kept up to date: set SIGIL_ANDROID_STATUS_FETCH="
            "on, or SIGIL_ANDROID_STATUS_PATH to a file that `sigil attest update-status` renews"
        )
    return StatusSource(path or (state_dir / "android-status.json" if url else None), url)


@dataclass(frozen=True)
class PolicyLists:
    """What SIGHUP reads again. `not_before`: Unix seconds."""

    apple_apps: tuple[str, ...]
    android_apps: tuple[tuple[str, bytes], ...]
    boot_keys: frozenset[str]
    not_before: int

    def applied(self, policy: AttestationPolicy) -> AttestationPolicy:
        return replace(
            policy,
            apple_apps=self.apple_apps,
            android_apps=self.android_apps,
            android_boot_keys=self.boot_keys,
            credentials_not_before=self.not_before,
        )


def read_renewed(r: EnvReader, running: AttestationPolicy) -> AttestationPolicy:
    """`running` with the lists as they are now."""
    lists = _read_lists(r)
    renewed = replace(lists.applied(running), kinds=_kinds(r, lists))
    _check_required(r, renewed)
    return renewed


def _read_lists(r: EnvReader) -> PolicyLists:
    given = r.list_or_file("SIGIL_CREDENTIALS_NOT_BEFORE").strip()
    not_before = _parsed(r, "SIGIL_CREDENTIALS_NOT_BEFORE", given, _time, 0) if given else 0
    if not_before > time.time():
        r.warnings.append(
            "SIGIL_CREDENTIALS_NOT_BEFORE: is in the future: until then every credential is rejected, new ones too"
        )
    return PolicyLists(
        apple_apps=_items(r, "SIGIL_APPLE_APPS", _apple_app),
        android_apps=_items(r, "SIGIL_ANDROID_APPS", _android_app),
        boot_keys=frozenset(_items(r, "SIGIL_ANDROID_BOOT_KEYS", _boot_key)),
        not_before=not_before,
    )


def _items(r: EnvReader, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """The distinct items of a list that commas or white space separate; one fault for each wrong item."""
    texts = [item for item in re.split(r"[\s,]+", r.list_or_file(name)) if item]
    if len(texts) > _MAX_ITEMS:
        r.faults.append(f"{name}: has {len(texts)} items, and at most {_MAX_ITEMS} are accepted")
        return ()
    found = (_parsed(r, name, text, parse, None) for text in texts)
    return tuple(dict.fromkeys(item for item in found if item is not None))


def _parsed(r: EnvReader, name: str, text: str, parse: Callable[[str], T], default: T) -> T:
    try:
        return parse(text)
    except ValueError as error:
        r.faults.append(f"{name}: {error}")
        return default


def _kinds(r: EnvReader, lists: PolicyLists) -> frozenset[Kind]:
    """Those that the setting names; without it, those whose apps are configured."""
    apps = {"apple-appattest": bool(lists.apple_apps), "android-key": bool(lists.android_apps)}
    variables = {"apple-appattest": "SIGIL_APPLE_APPS", "android-key": "SIGIL_ANDROID_APPS"}
    text = r.text("SIGIL_ATTESTATION_KINDS")
    if text is None:
        return frozenset(kind for kind in KINDS if apps.get(kind))
    names = [item for item in re.split(r"[\s,]+", text) if item]
    for name in (name for name in dict.fromkeys(names) if name not in KINDS):
        r.faults.append(
            f"SIGIL_ATTESTATION_KINDS: {_shown(name)} is not a kind that this version knows: the kinds are "
            f"{', '.join(KINDS)}"
        )
    for kind, variable in variables.items():
        given = bool(r.text(variable) or r.text(f"{variable}_FILE"))
        if kind in names and not given:
            r.faults.append(f"SIGIL_ATTESTATION_KINDS: {kind} needs {variable}, the apps that may attest")
        if kind not in names and given:
            r.warnings.append(f"{variable} has no effect: SIGIL_ATTESTATION_KINDS does not name {kind}")
    return frozenset(kind for kind in KINDS if kind in names)


def _check_required(r: EnvReader, policy: AttestationPolicy) -> None:
    if not policy.required:
        return
    if not policy.kinds:
        r.faults.append(
            "SIGIL_ATTESTATION_REQUIRED: no device could attest: set SIGIL_APPLE_APPS, SIGIL_ANDROID_APPS, or "
            "SIGIL_ATTESTATION_KINDS=yubikey-piv (docs/attestation.md)"
        )
    if policy.allow_emulators:
        r.faults.append(
            "SIGIL_ATTESTATION_REQUIRED: an emulator proves nothing: set SIGIL_ALLOW_EMULATORS=false, or "
            "SIGIL_ATTESTATION_REQUIRED=false"
        )
    if policy.test_roots:
        r.faults.append("SIGIL_ATTESTATION_ROOTS: is for tests; unset it where SIGIL_ATTESTATION_REQUIRED is true")


def _shown(text: str) -> str:
    return repr(text[:40])


def _apple_app(text: str) -> str:
    if len(text) > 255 or not _APPLE_APP.match(text):
        raise ValueError(
            f"{_shown(text)} is not an app: must be the team id, a dot and the bundle id, such as "
            "A1B2C3D4E5.com.example.app"
        )
    return text


def _android_app(text: str) -> tuple[str, bytes]:
    package, _, given = text.partition(":")
    # The consoles of Google print it with colons.
    digest = given.replace(":", "").lower()
    if len(package) > 255 or not _PACKAGE.match(package) or not _SHA256.match(digest):
        raise ValueError(
            f"{_shown(package)} is not an app with its signer: must be the package, a colon and the SHA-256 of the "
            "signing certificate (64 hex digits), such as com.example.app:3b6a…; without it any app of that name passes"
        )
    return package, bytes.fromhex(digest)


def _boot_key(text: str) -> str:
    if not _SHA256.match(text.lower()):
        raise ValueError(f"{_shown(text)} is not the SHA-256 of a verified boot key: must be 64 hex digits")
    return text.lower()


def _patch(text: str) -> int:
    match = _PATCH.match(text)
    if match is None:
        raise ValueError("must be a month such as 2026-05")
    return int(match[1] + match[2])


def _firmware(text: str) -> tuple[int, int, int]:
    match = _FIRMWARE.match(text)
    if match is None or any(int(part) > 255 for part in match.groups()):
        raise ValueError("must be a version of three numbers such as 5.7.0")
    return int(match[1]), int(match[2]), int(match[3])


def _time(text: str) -> int:
    try:
        if not _DATE.match(text):
            raise ValueError
        return calendar.timegm(time.strptime(text, "%Y-%m-%d" if len(text) == 10 else "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise ValueError("must be a day or a time in UTC, such as 2026-11-30 or 2026-11-30T12:00:00Z") from None


def _fetch(text: str) -> str | None:
    if text.lower() in {"off", "false", "no", "0"}:
        return None
    if text.lower() in {"on", "true", "yes", "1"}:
        return STATUS_URL
    try:
        return https_url(text)
    except ValueError:
        raise ValueError("must be on, off, or the https address of a mirror of the list") from None


def _certificates(text: str) -> tuple[bytes, ...]:
    # Imported here: few servers have this setting.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from sigil.attestation.certificates.roots import anchors

    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("holds no certificates in PEM form") from None
    roots = tuple(certificate.public_bytes(Encoding.DER) for certificate in found)
    anchors(roots)
    return roots
