"""Attestation: what is accepted, and the age of Android's status list, which no other figure of a server needs."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from sigil.android_status import list_file
from sigil.attestation.certificates.status_list import StatusList, UnusableStatusList
from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open

_RENEW = "set SIGIL_ANDROID_STATUS_FETCH=on, or run `sigil attest update-status` each day (docs/attestation.md)"


def check(config: Config, now: datetime.datetime) -> Iterator[Result]:
    """Nothing where attestation is off."""
    policy = config.attestation
    if not policy.kinds:
        return
    need = "required" if policy.required else "optional"
    yield ok("attestation", f"{need}; accepted: {', '.join(sorted(policy.kinds))}")
    if "android-key" in policy.kinds:
        yield _status_list(config, now.timestamp())


def _status_list(config: Config, now: float) -> Result:
    path = config.android_status.path
    try:
        found = list_file.read(path) if path else None
    except UnusableStatusList as error:
        return failed("attestation", f"Android's status list {path} is not used: {error}", _RENEW)
    if found is None:
        where = f"{path} does not exist" if path else "none is configured"
        return still_open("attestation", f"Android's status list is the old one of the release: {where}", _RENEW)
    return _age(found, now)


def _age(status: StatusList, now: float) -> Result:
    days = int(status.age(now) // 86_400)
    text = f"Android's status list has {status.entries} entries and is {days} days old"
    if status.is_old(now):
        return still_open("attestation", f"{text}: keys that leaked since then count as good", _RENEW)
    return ok("attestation", text)
