"""Android's status list: the certificates of key attestation whose keys leaked, as Google publishes them.

https://developer.android.com/privacy-and-security/security-key-attestation#certificate_status: an object `entries` from
a serial number to its status. A certificate that is not listed is good.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

MAX_BYTES = 8 << 20
"""The published list has about 170 KB."""
OLD_SECONDS = 30 * 86_400
_MAX_SERIAL = 64
_STATUSES = frozenset({"REVOKED", "SUSPENDED"})
_SERIAL = re.compile(rf"[0-9A-Fa-f]{{1,{_MAX_SERIAL}}}\Z", re.ASCII)


class UnusableStatusList(ValueError):
    """The text is the reason, and quotes nothing of the list."""


class _Entry(msgspec.Struct):
    status: str


class _Document(msgspec.Struct):
    entries: dict[str, _Entry]


@dataclass(frozen=True, repr=False)
class StatusList:
    """`serials`: lower-case hex without leading zeros. `known_at`: when the list was known to be the present one, in
    Unix seconds; 0 if that is not known, so it is older than any limit.
    """

    serials: frozenset[str]
    entries: int
    known_at: float

    def revoked(self, serial: str) -> bool:
        return serial in self.serials

    def age(self, now: float) -> float:
        return max(0.0, now - self.known_at)

    def is_old(self, now: float) -> bool:
        return self.age(now) > OLD_SECONDS


def parse(content: bytes, known_at: float) -> StatusList:
    """UnusableStatusList."""
    if len(content) > MAX_BYTES:
        raise UnusableStatusList(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        entries = msgspec.json.decode(content, type=_Document).entries
    # A text of brackets alone is nested too deep.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnusableStatusList("it is not a status list in JSON") from None
    if not entries:
        raise UnusableStatusList("it has no entries")
    serials = set()
    for serial, entry in entries.items():
        # An entry that this version does not understand might be one that it must refuse.
        if not _SERIAL.match(serial):
            raise UnusableStatusList("an entry is not a serial number")
        if entry.status not in _STATUSES:
            raise UnusableStatusList("an entry has a status other than REVOKED and SUSPENDED")
        serials |= _forms(serial)
    return StatusList(frozenset(serials), len(entries), known_at)


def _forms(serial: str) -> set[str]:
    """As hex; and as decimal where it could be: older entries are decimal numbers, against the published description. A
    serial is random and has 64 bits or more, so the reading that is wrong hits no other certificate.
    """
    found = {serial.lower().lstrip("0") or "0"}
    if serial.isdecimal():
        found.add(f"{int(serial):x}")
    return found
