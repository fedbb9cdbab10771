"""The phones by name, for commands: which fields each has, and a phone with some of them forged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any, Protocol

from sigil.device.attestation import DigestFor
from sigil.device.errors import DeviceError
from sigil.device.test_phone.android import AndroidFields, AndroidPhone
from sigil.device.test_phone.apple import AppleFields, ApplePhone
from sigil.device.test_phone.roots import TestRoot
from sigil.device.test_phone.yubikey import YubiKey, YubiKeyFields
from sigil.protocol.keys import PublicKey


class Phone(Protocol):
    def statement(self, digest_for: DigestFor) -> dict[str, Any]: ...


_PHONES: dict[str, tuple[Any, Any]] = {
    "android": (AndroidPhone, AndroidFields),
    "apple": (ApplePhone, AppleFields),
    "yubikey": (YubiKey, YubiKeyFields),
}
NAMES = tuple(_PHONES)
# KeyMint attests a key only when it makes it, and Apple's servers a key once: a renewal takes another way.
_RENEWAL: dict[str, dict[str, object]] = {"android": {"witness": True}, "apple": {"assertion": True}}


def phone(name: str, root: TestRoot, device: PublicKey, /, **forged: object) -> Phone:
    """TypeError when the phone has no such field."""
    kind, fields = _PHONES[name]
    made: Phone = kind(root, device, fields(**forged))
    return made


class TestAttester:
    """An `Attester` (sigil/device/attestation.py): attests whichever key it is given."""

    __test__ = False  # For pytest: not a class of tests.

    def __init__(self, name: str, root: TestRoot, /, **forged: object) -> None:
        self._name, self._root, self._forged = name, root, forged

    def statement(self, digest_for: DigestFor, device: PublicKey, *, renewal: bool = False) -> dict[str, Any]:
        fields = (_RENEWAL.get(self._name, {}) if renewal else {}) | self._forged
        try:
            return phone(self._name, self._root, device, **fields).statement(digest_for)
        except (TypeError, ValueError, AttributeError) as error:
            raise DeviceError(f"The test phone cannot attest this: {error}") from error


def defaults(name: str) -> Mapping[str, object]:
    """Each field that can be forged, with the value of a sound phone."""
    return {field.name: field.default for field in fields_of(_PHONES[name][1])}


def parse_fields(settings: Mapping[str, str], name: str) -> dict[str, object]:
    """Values as typed: `none`, `true`, a number, hex:…, a text; lists have commas. ValueError names a field."""
    known = defaults(name)
    for field in settings:
        if field not in known:
            raise ValueError(f"{name} has no field {field}. The fields: {', '.join(known)}.")
    return {field: _value(text, isinstance(known[field], tuple)) for field, text in settings.items()}


def _value(text: str, several: bool) -> object:
    if several:
        return tuple(_value(part, False) for part in text.split(",") if part)
    words = {"none": None, "true": True, "false": False}
    if text in words:
        return words[text]
    if text.startswith("hex:"):
        return bytes.fromhex(text[4:])
    return int(text) if text.removeprefix("-").isdecimal() else text
