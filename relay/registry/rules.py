"""The rules of the push queue, as pure functions: admission and its rate, notifications, claims and outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from relay.registry.model import (
    CLEARED_MINUTES,
    HISTORY_SECONDS,
    LEASE_SECONDS,
    MAX_HELD,
    MAX_HELD_BY_DEVICE,
    MAX_HISTORY,
    MAX_NOTIFICATION_BYTES,
    PRUNE_BATCH,
    AdmissionResult,
    AmbiguousFingerprint,
    AttemptOutcome,
    Bucket,
    Device,
    NewPush,
    PastPush,
    Push,
)

_DAY = 86_400


def day_of(now: float) -> int:
    return int(now) // _DAY


def minute_of(now: float) -> int:
    return int(now) // 60


def silent_before(presence: Sequence[tuple[int, int]], days: int) -> int | None:
    """The Unix second before which the last sign of a device must lie, if it was silent for `days` of presence; None if
    the relay was not up for that long. `presence` is (day, minutes of presence), the newest first."""
    left = days * 24 * 60
    for day, minutes in presence:
        left -= minutes
        if left <= 0:
            return day * _DAY
    return None


class Rate(NamedTuple):
    """`per_minute` (0: no limit), of which `burst` at once."""

    per_minute: int
    burst: int = 10

    def for_push(self, push: NewPush) -> Rate:
        """Clears use a bucket of their own. After an outage of the relay they arrive at once: as many as there may be
        notifications on the screen."""
        return self._replace(burst=self.burst + CLEARED_MINUTES * self.per_minute) if push.exempt else self

    def next_arrival(self, now: float, paid_until: float) -> float | None:
        """The theoretical arrival time after one more push; None when the rate is exceeded."""
        if not self.per_minute:
            return now
        step = 60 / self.per_minute
        # A bucket from further in the future than it can reach: the clock was set back.
        ahead = min(max(paid_until - now, 0.0), self.burst * step) + step
        return None if ahead > self.burst * step else now + ahead


class Admission(NamedTuple):
    """What a transaction has to write for one request, and the answers to it."""

    answers: list[AdmissionResult]
    pushes: list[Push]
    buckets: list[Bucket]
    newly_used: list[bytes]
    """Fingerprints of the devices that get their first push."""


def admit(
    server_id: bytes,
    requested: Sequence[NewPush],
    now: float,
    rate: Rate,
    *,
    devices: Mapping[bytes, Device],
    known: Mapping[str, Push],
    paid_until: Mapping[bytes, float],
    withdrawn: Collection[tuple[bytes, str]] = (),
) -> Admission:
    """A push_key that is known gets the current status of its push; rejected pushes are not stored.

    `devices` by fingerprint, `known` by push_key, `paid_until` by bucket name. `withdrawn`: the subjects of clears
    whose push was never sent. There is nothing to clear: such a clear counts as delivered, and is not sent.
    """
    answers: list[AdmissionResult] = []
    pushes: dict[str, Push] = {}
    buckets: dict[bytes, float] = dict(paid_until)
    changed: set[bytes] = set()
    for push in requested:
        if (before := known.get(push.push_key) or pushes.get(push.push_key)) is not None:
            answers.append(AdmissionResult(before.status, before.push.push_id, before.platform, before.error))
            continue
        device = devices.get(push.fingerprint)
        if device is None or device.evicted is not None or push.expires_at <= now:
            answers.append(_rejected(device))
            continue
        if push.subject in withdrawn:
            done = msgspec.structs.replace(push, payload=b"")
            pushes[push.push_key] = Push(server_id, done, device.platform, "delivered", created_at=now, ended_at=now)
            answers.append(AdmissionResult("delivered", push.push_id, device.platform))
            continue
        after = rate.for_push(push).next_arrival(now, buckets.get(push.bucket, 0.0))
        if after is None:
            answers.append(AdmissionResult("rate_limited", None, device.platform))
            continue
        buckets[push.bucket] = after
        changed.add(push.bucket)
        due = 0.0 if device.platform == "websocket" else now + LEASE_SECONDS
        pushes[push.push_key] = Push(server_id, push, device.platform, due=due, created_at=now)
        answers.append(AdmissionResult("queued", push.push_id, device.platform, device=device))
    reached = {push.push.fingerprint for push in pushes.values()}
    return Admission(
        answers,
        list(pushes.values()),
        [Bucket(name, buckets[name]) for name in sorted(changed)],
        sorted(fingerprint for fingerprint in reached if not devices[fingerprint].used),
    )


def _rejected(device: Device | None) -> AdmissionResult:
    if device is None:
        return AdmissionResult("not_registered", None, None)
    if device.evicted is not None:
        return AdmissionResult("token_evicted", None, device.platform, device.evicted)
    return AdmissionResult("failed", None, device.platform, "expired")


def notification_batches(answers: Sequence[AdmissionResult]) -> list[bytes]:
    """The data of the notifications on channel PUSHES: 16 bytes of the fingerprint of each websocket device."""
    fetching = {one.device.fingerprint[:16] for one in answers if one.device and one.device.platform == "websocket"}
    data = b"".join(sorted(fetching))
    return [data[start : start + MAX_NOTIFICATION_BYTES] for start in range(0, len(data), MAX_NOTIFICATION_BYTES)]


def superseded(held: Sequence[tuple[bytes, str]]) -> list[int]:
    """Which pushes of a device are too many, given the server and the owner of each, the newest first: beyond MAX_HELD
    of a server, whose owners take turns, and beyond MAX_HELD_BY_DEVICE of all servers, which take turns as well."""
    if len(held) <= MAX_HELD:
        return []
    of_owner: Counter[tuple[bytes, str]] = Counter()
    turns: list[tuple[int, int, bytes]] = []
    for index, (server_id, owner) in enumerate(held):
        of_owner[server_id, owner] += 1
        turns.append((of_owner[server_id, owner], index, server_id))
    of_server: Counter[bytes] = Counter()
    ranked: list[tuple[int, int]] = []
    for _, index, server_id in sorted(turns):
        of_server[server_id] += 1
        ranked.append((of_server[server_id], index))
    ranked.sort()
    return [index for place, (nth, index) in enumerate(ranked, 1) if nth > MAX_HELD or place > MAX_HELD_BY_DEVICE]


def claim_share(limit: int, servers: int) -> int:
    """The number of pushes of one server that a claim of `limit` reads: few servers fill a claim, and many do not read
    much more than it."""
    return min(limit, max(1, limit // 4, 2 * limit // servers))


class Triage(NamedTuple):
    """Pushes that were due: those to attempt, outcomes of those without a device, and devices that changed platform."""

    claimed: list[tuple[Push, Device]]
    ended: list[AttemptOutcome]
    moved: list[Device]


def triage(due: Sequence[Push], devices: Mapping[bytes, Device]) -> Triage:
    """Sort pushes that were claimed for an attempt; expired ones are no longer queued and are skipped."""
    result = Triage([], [], [])
    for push in due:
        device = devices.get(push.push.fingerprint)
        if push.status != "queued":
            continue
        if device is None:
            result.ended.append(AttemptOutcome(push.server_id, push.push.push_key, "not_registered"))
        elif device.evicted is not None:
            result.ended.append(AttemptOutcome(push.server_id, push.push.push_key, "token_evicted", device.evicted))
        elif device.platform != push.platform:
            result.moved.append(device)
        else:
            result.claimed.append((push, device))
    return result


def newest(pushes: Iterable[PastPush]) -> list[PastPush]:
    """The newest MAX_HISTORY of them, the newest first."""
    return sorted(pushes, key=lambda push: push.created_at, reverse=True)[:MAX_HISTORY]


def remembered(pushes: Iterable[PastPush], now: float) -> list[PastPush]:
    """`newest`, without those that are too old to be read."""
    return newest(push for push in pushes if push.created_at > now - HISTORY_SECONDS)


def fingerprints_beginning(text: str) -> tuple[bytes, bytes]:
    """The least and the greatest fingerprint whose hex begins with `text`, of 1 to 64 characters."""
    return bytes.fromhex(text.ljust(64, "0")), bytes.fromhex(text.ljust(64, "f"))


def only_match(matches: Collection[bytes], first: bytes, last: bytes) -> bytes | None:
    """The fingerprint that `first` and `last`, the least and the greatest with a certain beginning, stand for. None
    without a match; AmbiguousFingerprint when there are several."""
    if first == last:
        return first
    if len(set(matches)) > 1:
        raise AmbiguousFingerprint
    return next(iter(matches), None)


def excess_histories(counts: Mapping[bytes, int], limit: int) -> tuple[bytes, int] | None:
    """The server with the most histories, and how many of the oldest it loses, while there are more than `limit` of all
    servers."""
    total = sum(counts.values())
    if total <= limit:
        return None
    server_id = max(counts, key=lambda name: (counts[name], name))
    return server_id, min(total - limit, PRUNE_BATCH)


def coalesced(outcomes: Sequence[AttemptOutcome]) -> list[AttemptOutcome]:
    """One outcome per push, in the order of their keys, in which every store locks.

    `delivered` has precedence over any other final status, and a final status over another attempt. Otherwise the first
    final status and the last attempt count.
    """
    kept: dict[tuple[bytes, str], AttemptOutcome] = {}
    for one in outcomes:
        before = kept.get((one.server_id, one.push_key))
        if before is None or before.status == "queued" or (one.status == "delivered" != before.status):
            kept[one.server_id, one.push_key] = one
    return [kept[key] for key in sorted(kept)]
