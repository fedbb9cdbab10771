"""The push queue in PostgreSQL.

A request of 500 pushes takes as many round trips as one of a single push: rows travel as arrays. The order of locks is
that of `postgres.devices`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from relay.registry.group_commit import GroupCommit
from relay.registry.model import (
    BACKLOG_COUNT_LIMIT,
    CLEARED,
    LEASE_SECONDS,
    MAX_HELD,
    MAX_HELD_BY_DEVICE,
    PROVIDERS,
    PUSHES,
    SUPERSEDED,
    AdmissionResult,
    AttemptOutcome,
    Device,
    NewPush,
    Platform,
    Push,
    RegistryBusy,
    Status,
)
from relay.registry.postgres import statements
from relay.registry.postgres.notifications import notify
from relay.registry.postgres.pool import Connection, PoolUser, PostgresPool, autocommit
from relay.registry.rows import device_of, push_of, push_row
from relay.registry.rules import Admission, Rate, admit, claim_share, coalesced, notification_batches, triage


class PostgresPushes(PoolUser):
    """`PushQueue`."""

    def __init__(self, pool: PostgresPool) -> None:
        super().__init__(pool)
        self._group_commit = GroupCommit[AttemptOutcome](
            lambda outcomes: pool.use(lambda connection: write_outcomes(connection, outcomes))
        )

    async def admit(
        self, server_id: bytes, requested: Sequence[NewPush], now: float, rate: Rate
    ) -> list[AdmissionResult]:
        answers = await self._pool.transact(lambda con: admit_pushes(con, server_id, requested, now, rate))
        if batches := notification_batches(answers):
            await self._notify_devices(batches)
        return answers

    async def _notify_devices(self, batches: Sequence[bytes]) -> None:
        # After the commit: NOTIFY holds a lock of the whole database until the end of its transaction, and a commit
        # waits for the disk. If it fails, the pushes stay queued, and a device gets them when it connects.
        try:
            await self._pool.use(lambda con: notify(con, PUSHES, batches))
        except RegistryBusy:
            return

    async def record_outcomes(self, outcomes: Sequence[AttemptOutcome], now: float) -> None:
        if outcomes:
            await self._group_commit([one if one.due else one._replace(due=now) for one in outcomes])

    @autocommit
    async def outcomes(self, con: Connection, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
        rows = await con.fetch(statements.OUTCOMES, server_id, list(set(push_keys)))
        found = {push.push.push_key: push for push in map(push_of, rows)}
        return [found.get(key) for key in push_keys]

    @autocommit
    async def pending_for(self, con: Connection, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        held = statements.HELD, list(set(fingerprints)), now, MAX_HELD_BY_DEVICE
        pushes = [push_of(row) for row in await con.fetch(*held)]
        new = [push.push.push_id for push in pushes if not push.attempts]
        if new and await con.execute(statements.GIVE, new) != f"UPDATE {len(new)}":
            # Some were withdrawn in between.
            return [push_of(row) for row in await con.fetch(*held)]
        return [push if push.attempts else msgspec.structs.replace(push, attempts=1) for push in pushes]

    @autocommit
    async def acknowledge(self, con: Connection, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        row = await con.fetchrow(statements.ACKNOWLEDGE, fingerprint, push_id, now)
        return row and push_of(row)

    @autocommit
    async def claim(
        self, con: Connection, platform: Platform, now: float, limit: int, skip: Collection[bytes] = ()
    ) -> list[tuple[Push, Device]]:
        servers = [row[0] for row in await con.fetch(statements.DUE_SERVERS, platform) if row[0] not in skip]
        if not servers:
            return []
        share = claim_share(limit, len(servers))
        rows = await con.fetch(statements.CLAIM, now, limit, now + LEASE_SECONDS, platform, servers, share)
        pushes = [push_of(row) for row in rows]
        if not pushes:
            return []
        rows = await con.fetch(statements.DEVICES, list({push.push.fingerprint for push in pushes}))
        result = triage(pushes, {row[0]: device_of(row) for row in rows})
        await write_outcomes(con, [one._replace(due=now) for one in result.ended])
        for device in result.moved:
            await con.execute(statements.FOLLOW, device.fingerprint, device.platform, now)
        return result.claimed

    @autocommit
    async def sweep(self, con: Connection, now: float, limit: int) -> int:
        return int(await con.fetchval(statements.SWEEP, now, limit))

    @autocommit
    async def first_due(self, con: Connection) -> float | None:
        heads = []
        for platform in PROVIDERS:
            servers = [row[0] for row in await con.fetch(statements.DUE_SERVERS, platform)]
            heads.append(await con.fetchval(statements.FIRST_DUE, platform, servers) if servers else None)
        return min((head for head in heads if head is not None), default=None)

    @autocommit
    async def backlog(self, con: Connection) -> int:
        return int(await con.fetchval(statements.BACKLOG, BACKLOG_COUNT_LIMIT))


async def admit_pushes(
    con: Connection, server_id: bytes, requested: Sequence[NewPush], now: float, rate: Rate
) -> list[AdmissionResult]:
    """In a transaction, of three statements without a conflict.

    The lock on a device's row orders all changes of the device: its rate, its queue, its eviction. The rule's other
    inputs are read after that lock is held, as a statement does not see rows committed while it waited.
    """
    fingerprints = sorted({push.fingerprint for push in requested})
    devices = {row[0]: device_of(row) for row in await con.fetch(statements.LOCK_DEVICES, fingerprints)}
    withdrawn = await _withdraw(con, server_id, requested, now)
    known, paid_until, held = await _situation(con, server_id, requested)
    admission = admit(
        server_id,
        requested,
        now,
        rate,
        devices=devices,
        known=known,
        paid_until=paid_until,
        withdrawn=withdrawn,
    )
    if not admission.pushes:
        return admission.answers
    inserted = await con.execute(statements.INSERT, server_id, *_columns(admission, now))
    if inserted != f"INSERT 0 {len(admission.pushes)}":
        # A concurrent request used the same keys for other devices. It was first, and its keys are known by now.
        known, _, _ = await _situation(con, server_id, requested)
        return [_answer(one, push, known) for one, push in zip(admission.answers, requested, strict=True)]
    new = Counter(push.push.fingerprint for push in admission.pushes if push.status == "queued")
    overfull = [
        fingerprint
        for fingerprint, (own, number) in held.items()
        if own + new[fingerprint] > MAX_HELD or number + new[fingerprint] > MAX_HELD_BY_DEVICE
    ]
    return await _supersede(con, overfull, admission.answers, now) if overfull else admission.answers


async def _withdraw(
    con: Connection, server_id: bytes, requested: Sequence[NewPush], now: float
) -> set[tuple[bytes, str]]:
    """End the unsent pushes of clears; the subjects of those clears. Only requests with clears pay for it."""
    subjects = sorted({push.subject for push in requested if push.subject is not None})
    if not subjects:
        return set()
    fingerprints, names = zip(*subjects, strict=True)
    rows = await con.fetch(statements.WITHDRAW, server_id, fingerprints, names, CLEARED, now)
    return {tuple(row) for row in rows}


async def write_outcomes(con: Connection, outcomes: Sequence[AttemptOutcome]) -> None:
    """One statement for all delivered pushes, and few for the others. Each commits by itself and keeps no locks."""
    ended: dict[tuple[bytes, Status, str | None], list[AttemptOutcome]] = {}
    queued: dict[bytes, list[AttemptOutcome]] = {}
    for one in coalesced(outcomes):
        if one.status == "queued":
            queued.setdefault(one.server_id, []).append(one)
        else:
            ended.setdefault((one.server_id, one.status, _storable(one.error)), []).append(one)
    for (server_id, status, error), group in ended.items():
        # Of one commit, so within milliseconds of one another.
        ended_at = max(one.due for one in group)
        await con.execute(statements.END_SOME, server_id, [one.push_key for one in group], status, error, ended_at)
    for server_id, attempts in queued.items():
        keys, dues = [one.push_key for one in attempts], [one.due for one in attempts]
        await con.execute(statements.RETRY, server_id, keys, [_storable(one.error) for one in attempts], dues)


async def _situation(
    con: Connection, server_id: bytes, requested: Sequence[NewPush]
) -> tuple[dict[str, Push], dict[bytes, float], dict[bytes, tuple[int, int]]]:
    """Pushes whose keys are known, `paid_until` by bucket, and the number of queued pushes of each device: those of
    this server, and all."""
    keys, fingerprints = [push.push_key for push in requested], [push.fingerprint for push in requested]
    buckets = [push.bucket for push in requested]
    known: dict[str, Push] = {}
    paid_until: dict[bytes, float] = {}
    held: dict[bytes, tuple[int, int]] = {}
    rows = await con.fetch(statements.SITUATION, server_id, keys, fingerprints, buckets, MAX_HELD_BY_DEVICE)
    for push, (paid, own, number, push_id, platform, status, error) in zip(requested, rows, strict=True):
        held[push.fingerprint] = own, number
        if paid is not None:
            paid_until[push.bucket] = paid
        if push_id is not None:
            before = NewPush(push_id, push.push_key, push.fingerprint, b"", 0)
            known[push.push_key] = Push(server_id, before, platform, status, error)
    return known, paid_until, held


def _storable(error: str | None) -> str | None:
    """A provider's error text, without NUL and surrogates: these would make the whole batch fail."""
    return error and error.encode(errors="replace").replace(b"\0", b"").decode()


def _columns(admission: Admission, now: float) -> list[Sequence[Any]]:
    rows = [push_row(push) for push in admission.pushes]
    buckets = [bucket for bucket in admission.buckets if bucket.paid_until > now]
    return [
        [bucket.name for bucket in buckets],
        [bucket.paid_until for bucket in buckets],
        *zip(*rows, strict=True),
        admission.newly_used,
    ]


def _answer(one: AdmissionResult, push: NewPush, known: dict[str, Push]) -> AdmissionResult:
    stored = known.get(push.push_key)
    if one.device is None or stored is None or stored.push.push_id == one.push_id:
        return one
    return AdmissionResult(stored.status, stored.push.push_id, stored.platform, stored.error)


async def _supersede(
    con: Connection, fingerprints: list[bytes], answers: list[AdmissionResult], now: float
) -> list[AdmissionResult]:
    limits = MAX_HELD, MAX_HELD_BY_DEVICE
    rows = await con.fetch(statements.SUPERSEDE, sorted(fingerprints), *limits, SUPERSEDED, now)
    superseded = {row[0] for row in rows}
    return [
        AdmissionResult("failed", one.push_id, one.platform, SUPERSEDED) if one.push_id in superseded else one
        for one in answers
    ]
