"""What the relay remembers, the rules about it, and the port behind which PostgreSQL or SQLite does the remembering.

All times are Unix seconds that the caller gives. Fingerprints and server_ids are 32 raw bytes here. Tokens and payloads
are sealed before they come here (see `sealing`), and opened by who reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

Platform = Literal["apns", "fcm", "websocket"]
Status = Literal["delivered", "queued", "not_registered", "token_evicted", "rate_limited", "failed"]
Priority = Literal["high", "normal"]

MAX_HELD = 20
"""Undelivered pushes a device; the oldest go."""
LEASE_SECONDS = 30
"""How long a worker has for one attempt, before another takes the push over."""
CLEARED_MINUTES = 5
"""A challenge lives so long: what was pushed to a device in this time may have to be cleared at once."""
SUPERSEDED = "superseded"
SILENT = "silent"
"""Why a token is evicted that nobody heard of for long."""
EVICTION_REMEMBERED_SECONDS = 90 * 86_400
SEEN_EVERY_SECONDS = 3600
"""`seen_at` may be behind by this much: a row that is written at each push would be most of the writing."""
PRUNED_AT_ONCE = 1000
COUNTED_AT_MOST = 10_000
"""Up to here the backlog is counted; beyond it is an estimate."""
MAX_TOLD = 4000
"""Bytes of one `tell`: PostgreSQL carries less than 8000 of text."""
PUSHES = "pushes"
"""The channel on which devices with a new push to fetch are told."""


class Device(msgspec.Struct, frozen=True):
    """A registration; `evicted` says why its token is dead, and the device is to register again."""

    fingerprint: bytes
    public_key: bytes
    platform: Platform
    token: bytes
    registered_at: int
    seen_at: int = 0
    failures: int = 0
    evicted: str | None = None


class Server(msgspec.Struct, frozen=True):
    """A server whose pushes are taken. `public_key` is empty while only its id is known, before its first request.

    `listed`: the settings alone say so, not an operator; who trusts an operator's server again changes nothing.
    """

    server_id: bytes
    public_key: bytes
    name: str
    trusted_at: int
    listed: bool = False


class NewPush(msgspec.Struct, frozen=True):
    """One push as a server asked for it, its payload sealed. `exempt` from the rate of the others: a `clear`."""

    push_id: bytes
    push_key: str
    fingerprint: bytes
    payload: bytes
    expires_at: int
    collapse_id: str | None = None
    priority: Priority = "high"
    exempt: bool = False

    @property
    def bucket(self) -> bytes:
        """Which bucket of its server pays for it: the device's, or the one of the device's clears."""
        return b"clear" + self.fingerprint if self.exempt else self.fingerprint


class Push(msgspec.Struct, frozen=True):
    """A push that is remembered until `expires_at`, with its payload as long as it is queued.

    `due` is when it is to be tried (again); 0 for one that waits for its device or is decided.
    """

    server_id: bytes
    push: NewPush
    platform: Platform
    status: Status = "queued"
    error: str | None = None
    due: float = 0
    attempts: int = 0
    created_at: float = 0


class Admitted(NamedTuple):
    """What became of one push of a request: `device` is set when it is this caller's to deliver."""

    status: Status
    push_id: bytes | None
    platform: Platform | None
    error: str | None = None
    device: Device | None = None


class AttemptOutcome(NamedTuple):
    """The outcome of one attempt: final, or `queued` to be tried again at `due`."""

    server_id: bytes
    push_key: str
    status: Status
    error: str | None = None
    due: float = 0


class Bucket(NamedTuple):
    """The theoretical arrival time (seconds) of the generic cell rate algorithm, for one (server, `NewPush.bucket`)."""

    name: bytes
    paid_until: float


class Rate(NamedTuple):
    """`per_minute` (0: no limit), of which `burst` at once."""

    per_minute: int
    burst: int = 10

    def of(self, push: NewPush) -> Rate:
        """Clears take nothing from what they follow, and come at once when a relay was away: as many as may be on the
        screen."""
        return self._replace(burst=self.burst + CLEARED_MINUTES * self.per_minute) if push.exempt else self

    def paid(self, now: float, paid_until: float) -> float | None:
        """The bucket after one more push; None when there is no room for it."""
        if not self.per_minute:
            return now
        step = 60 / self.per_minute
        # A bucket from further in the future than it can reach: the clock was set back.
        ahead = min(max(paid_until - now, 0.0), self.burst * step) + step
        return None if ahead > self.burst * step else now + ahead


class Admission(NamedTuple):
    """What a transaction has to write for one request, and what it answers."""

    answers: list[Admitted]
    pushes: list[Push]
    buckets: list[Bucket]


def admit(
    server_id: bytes,
    wanted: Sequence[NewPush],
    now: float,
    rate: Rate,
    *,
    devices: Mapping[bytes, Device],
    known: Mapping[str, Push],
    paid: Mapping[bytes, float],
) -> Admission:
    """The rule: a push_key that is known is answered with what became of it; refusals are not remembered."""
    answers: list[Admitted] = []
    pushes: dict[str, Push] = {}
    buckets: dict[bytes, float] = dict(paid)
    changed: set[bytes] = set()
    for push in wanted:
        if (before := known.get(push.push_key) or pushes.get(push.push_key)) is not None:
            answers.append(Admitted(before.status, before.push.push_id, before.platform, before.error))
            continue
        device = devices.get(push.fingerprint)
        if device is None or device.evicted is not None or push.expires_at <= now:
            answers.append(_refused(device, push, now))
            continue
        after = rate.of(push).paid(now, buckets.get(push.bucket, 0.0))
        if after is None:
            answers.append(Admitted("rate_limited", None, device.platform))
            continue
        buckets[push.bucket] = after
        changed.add(push.bucket)
        due = 0.0 if device.platform == "websocket" else now + LEASE_SECONDS
        pushes[push.push_key] = Push(server_id, push, device.platform, due=due, created_at=now)
        answers.append(Admitted("queued", push.push_id, device.platform, device=device))
    return Admission(answers, list(pushes.values()), [Bucket(name, buckets[name]) for name in sorted(changed)])


def _refused(device: Device | None, push: NewPush, now: float) -> Admitted:
    if device is None:
        return Admitted("not_registered", None, None)
    if device.evicted is not None:
        return Admitted("token_evicted", None, device.platform, device.evicted)
    return Admitted("failed", None, device.platform, "expired")


class Pruned(NamedTuple):
    """How many were evicted, and how many evictions forgotten."""

    evicted: int
    forgotten: int


class RegistryBusy(Exception):
    """No connection within the time, or the database is away: 503, and nothing was decided.

    Unless the connection broke at the commit: then it may have been, and a repeat finds what is there.
    """


class RegistryUnusable(Exception):
    """The registry cannot be opened, and waiting will not help; one line that says what to mend, without secrets."""


NotificationHandler = Callable[[str, bytes], None]
"""`news(channel, data)`, called in every worker and replica that listens, the teller included."""


def notification_batches(answers: Sequence[Admitted]) -> list[bytes]:
    """What is told on the channel PUSHES of devices that fetch their pushes: 16 bytes of each fingerprint."""
    waiting = {one.device.fingerprint[:16] for one in answers if one.device and one.device.platform == "websocket"}
    data = b"".join(sorted(waiting))
    return [data[start : start + MAX_TOLD] for start in range(0, len(data), MAX_TOLD)]


class Judged(NamedTuple):
    """Pushes that are due: whose to try they are, which have nobody to go to, and devices on another platform now."""

    claimed: list[tuple[Push, Device]]
    gone: list[AttemptOutcome]
    moved: list[Device]


def triage(due: Sequence[Push], devices: Mapping[bytes, Device]) -> Judged:
    """What to do with pushes that were taken for an attempt; those that expired are not queued any more."""
    result = Judged([], [], [])
    for push in due:
        device = devices.get(push.push.fingerprint)
        if push.status != "queued":
            continue
        if device is None:
            result.gone.append(AttemptOutcome(push.server_id, push.push.push_key, "not_registered"))
        elif device.evicted is not None:
            result.gone.append(AttemptOutcome(push.server_id, push.push.push_key, "token_evicted", device.evicted))
        elif device.platform != push.platform:
            result.moved.append(device)
        else:
            result.claimed.append((push, device))
    return result


def coalesced(settled: Sequence[AttemptOutcome]) -> list[AttemptOutcome]:
    """One outcome a push, in the order of their keys (in which every store locks): delivered beats any other end, an
    end beats another try, and else the first end and the last try count."""
    kept: dict[tuple[bytes, str], AttemptOutcome] = {}
    for one in settled:
        before = kept.get((one.server_id, one.push_key))
        if before is None or before.status == "queued" or (one.status == "delivered" != before.status):
            kept[one.server_id, one.push_key] = one
    return [kept[key] for key in sorted(kept)]


class Registry(Protocol):
    """Every method is one transaction, and raises RegistryBusy when the database cannot be had in time.

    Text holds no NUL: whoever takes it from a request sees to that.
    """

    async def open(self, news: NotificationHandler) -> None:
        """Migrate, and listen. After a break of the connection `news("lost", b"")` says that some may be missing.

        Raises RegistryUnusable."""

    async def close(self) -> None: ...

    async def check(self) -> None:
        """RegistryBusy unless the database answers."""

    async def notify(self, channel: str, data: bytes) -> None:
        """At most MAX_TOLD bytes, to all who listen."""

    # Devices

    async def register(self, device: Device) -> None:
        """The last write wins; an eviction is forgotten. Queued pushes follow the device to its new platform."""

    async def unregister(self, fingerprint: bytes) -> bool:
        """Forget the device; its queued pushes end as not_registered."""

    async def device(self, fingerprint: bytes) -> Device | None: ...

    async def mark_seen(self, fingerprint: bytes, now: int) -> None:
        """The device was in contact, or a push to it was accepted: failures begin at zero.

        Written at most once in SEEN_EVERY_SECONDS, so that calling it often is cheap."""

    async def failed(self, fingerprint: bytes, token: bytes) -> int:
        """One more failure in a row of the sealed `token`; how many there are. 0 when the device does not have it."""

    async def evict(self, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        """Mark the sealed `token` dead and overwrite it; the queued pushes of the device end as token_evicted.

        False when the device does not have it any more: it registered anew, be it in the same second, or was evicted
        before."""

    async def count_devices(self) -> dict[str, int]:
        """By platform; evicted ones under "evicted"."""

    async def devices(self, after: bytes, limit: int) -> list[Device]:
        """In the order of fingerprints, those behind `after`."""

    async def reseal(self, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        """Replace a sealed token, if it is still `old`."""

    async def prune(self, seen_before: int, evicted_before: int, now: int) -> Pruned:
        """Evict what was not seen since `seen_before` (SILENT), forget evictions from before `evicted_before`.

        At most PRUNED_AT_ONCE of each: none of either says that nothing is left."""

    # Servers

    async def server(self, server_id: bytes) -> Server | None: ...

    async def servers(self) -> list[Server]: ...

    async def trust(self, server: Server) -> None:
        """Add, or replace name and key."""

    async def trust_first(self, server: Server) -> bool:
        """Add, if no server is known; True also when it is this very server that is known."""

    async def distrust(self, server_id: bytes) -> bool: ...

    # What may be used once

    async def use_nonce(self, nonce: bytes, until: int) -> bool:
        """True for the first use of up to 64 bytes; remembered until `until`."""

    # Pushes

    async def admit(self, server_id: bytes, wanted: Sequence[NewPush], now: float, rate: Rate) -> list[Admitted]:
        """Apply the rule `admit`, remember what it admitted, and let the oldest of over MAX_HELD queued of a device go
        (failed, SUPERSEDED). Fingerprints of admitted websocket pushes are told on channel PUSHES, 16 bytes each."""

    async def settle(self, settled: Sequence[AttemptOutcome], now: float) -> None:
        """Write outcomes of attempts. A push that is not queued any more loses its payload, and never changes again,
        except to delivered. One that is to be tried again without saying when is due `now`."""

    async def outcomes(self, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]: ...

    async def pending_for(self, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        """Queued websocket pushes of devices, the oldest first, at most MAX_HELD each."""

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        """The device has it: delivered, the payload is gone. None when there is no such push of this device.

        A repeat is answered with the push, too."""

    async def claim(self, platform: Platform, now: float, limit: int) -> list[tuple[Push, Device]]:
        """Queued pushes to a platform that are due, for this caller alone for LEASE_SECONDS; `attempts` is counted up.
        What waits for one platform does not make it longer to find what is due on another.

        At most `limit` rows are looked at; those that are over, or whose device is gone, end instead of being tried."""

    async def sweep(self, now: float, limit: int) -> int:
        """Forget pushes, nonces and buckets that are over, `limit` of each; how many. Under `limit`: none are left."""

    async def backlog(self) -> int:
        """Queued pushes, for a gauge: an estimate may do, a scan may not (see COUNTED_AT_MOST)."""
