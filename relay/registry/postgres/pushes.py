"""Pushes, nonces and buckets in PostgreSQL: functions of a connection, one for each method of the registry.

A request of 500 pushes is as many round trips as one of a single push: rows travel as arrays. The order of locks is
that of `postgres_devices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.registry.port import (
    COUNTED_AT_MOST,
    LEASE_SECONDS,
    MAX_HELD,
    SUPERSEDED,
    Admission,
    Admitted,
    AttemptOutcome,
    Device,
    NewPush,
    Platform,
    Push,
    Rate,
    Status,
    admit,
    coalesced,
    triage,
)
from relay.registry.postgres.statements import (
    ACKNOWLEDGE,
    BACKLOG,
    CLAIM,
    DEVICES,
    END_SOME,
    FOLLOW,
    HELD,
    INSERT,
    LOCK_DEVICES,
    OUTCOMES,
    SITUATION,
    SPEND,
    SUPERSEDE,
    SWEEP,
    TRY_AGAIN,
)
from relay.registry.rows import device_of, push_of, row_of


async def use_nonce(con: Any, nonce: bytes, until: int) -> bool:
    return bool(await con.execute(SPEND, nonce, until) == "INSERT 0 1")


async def admitted(con: Any, server_id: bytes, wanted: Sequence[NewPush], now: float, rate: Rate) -> list[Admitted]:
    """In a transaction, of three statements when nothing is in the way.

    The lock on a device's row keeps everything about the device in order: its rate, what it holds, its eviction. What
    else the rule reads is read after the lock was had, as a statement does not see what was committed while it waited.
    """
    fingerprints = sorted({push.fingerprint for push in wanted})
    devices = {row[0]: device_of(row) for row in await con.fetch(LOCK_DEVICES, fingerprints)}
    known, paid, held = await _situation(con, server_id, wanted)
    admission = admit(server_id, wanted, now, rate, devices=devices, known=known, paid=paid)
    if not admission.pushes:
        return admission.answers
    inserted = await con.execute(INSERT, server_id, *_columns(admission, now))
    if inserted != f"INSERT 0 {len(admission.pushes)}":
        # The same keys for other devices at the same time: theirs were first, and they are known now.
        known, _, _ = await _situation(con, server_id, wanted)
        return [_answer(one, push, known) for one, push in zip(admission.answers, wanted, strict=True)]
    for push in admission.pushes:
        held[push.push.fingerprint] += 1
    crowded = [name for name, number in held.items() if number > MAX_HELD]
    return await _superseding(con, crowded, admission.answers) if crowded else admission.answers


async def settle(con: Any, settled: Sequence[AttemptOutcome]) -> None:
    """One statement for what was delivered, and few for the rest: each commits for itself, and keeps no locks."""
    ended: dict[tuple[bytes, Status, str | None], list[str]] = {}
    again: dict[bytes, list[AttemptOutcome]] = {}
    for one in coalesced(settled):
        if one.status == "queued":
            again.setdefault(one.server_id, []).append(one)
        else:
            ended.setdefault((one.server_id, one.status, _storable(one.error)), []).append(one.push_key)
    for (server_id, status, error), keys in ended.items():
        await con.execute(END_SOME, server_id, keys, status, error)
    for server_id, tried in again.items():
        keys, dues = [one.push_key for one in tried], [one.due for one in tried]
        await con.execute(TRY_AGAIN, server_id, keys, [_storable(one.error) for one in tried], dues)


async def outcomes(con: Any, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
    rows = await con.fetch(OUTCOMES, server_id, list(set(push_keys)))
    found = {push.push.push_key: push for push in map(push_of, rows)}
    return [found.get(key) for key in push_keys]


async def pending_for(con: Any, fingerprints: Sequence[bytes], now: float) -> list[Push]:
    rows = await con.fetch(HELD, list(set(fingerprints)), now, MAX_HELD)
    return [push_of(row) for row in rows]


async def acknowledge(con: Any, fingerprint: bytes, push_id: bytes) -> Push | None:
    row = await con.fetchrow(ACKNOWLEDGE, fingerprint, push_id)
    return row and push_of(row)


async def claim(con: Any, platform: Platform, now: float, limit: int) -> list[tuple[Push, Device]]:
    pushes = [push_of(row) for row in await con.fetch(CLAIM, now, limit, now + LEASE_SECONDS, platform)]
    if not pushes:
        return []
    rows = await con.fetch(DEVICES, list({push.push.fingerprint for push in pushes}))
    result = triage(pushes, {row[0]: device_of(row) for row in rows})
    await settle(con, result.gone)
    for device in result.moved:
        await con.execute(FOLLOW, device.fingerprint, device.platform, now)
    return result.claimed


async def sweep(con: Any, now: float, limit: int) -> int:
    return int(await con.fetchval(SWEEP, now, limit))


async def backlog(con: Any) -> int:
    return int(await con.fetchval(BACKLOG, COUNTED_AT_MOST))


async def _situation(
    con: Any, server_id: bytes, wanted: Sequence[NewPush]
) -> tuple[dict[str, Push], dict[bytes, float], dict[bytes, int]]:
    """Which keys are known, what is paid, and how many pushes each device holds (as many as count)."""
    keys, names = [push.push_key for push in wanted], [push.fingerprint for push in wanted]
    buckets = [push.bucket for push in wanted]
    known: dict[str, Push] = {}
    paid: dict[bytes, float] = {}
    held: dict[bytes, int] = {}
    rows = await con.fetch(SITUATION, server_id, keys, names, buckets, MAX_HELD)
    for push, (paid_until, number, push_id, platform, status, error) in zip(wanted, rows, strict=True):
        held[push.fingerprint] = number
        if paid_until is not None:
            paid[push.bucket] = paid_until
        if push_id is not None:
            before = NewPush(push_id, push.push_key, push.fingerprint, b"", 0)
            known[push.push_key] = Push(server_id, before, platform, status, error)
    return known, paid, held


def _storable(error: str | None) -> str | None:
    """What a provider said: it must not keep the outcomes of others from being written."""
    return error and error.encode(errors="replace").replace(b"\0", b"").decode()


def _columns(admission: Admission, now: float) -> list[Sequence[Any]]:
    rows = [row_of(push) for push in admission.pushes]
    paid = [bucket for bucket in admission.buckets if bucket.paid_until > now]
    return [
        [bucket.name for bucket in paid],
        [bucket.paid_until for bucket in paid],
        *zip(*rows, strict=True),
    ]


def _answer(one: Admitted, push: NewPush, known: dict[str, Push]) -> Admitted:
    there = known.get(push.push_key)
    if one.device is None or there is None or there.push.push_id == one.push_id:
        return one
    return Admitted(there.status, there.push.push_id, there.platform, there.error)


async def _superseding(con: Any, crowded: list[bytes], answers: list[Admitted]) -> list[Admitted]:
    gone = {row[0] for row in await con.fetch(SUPERSEDE, sorted(crowded), MAX_HELD, SUPERSEDED)}
    return [
        Admitted("failed", one.push_id, one.platform, SUPERSEDED) if one.push_id in gone else one for one in answers
    ]
