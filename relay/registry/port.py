"""The ports of the registry, behind which PostgreSQL or SQLite stores devices, servers and pushes.

Every method is one transaction, or statements that each commit for themselves. It raises RegistryBusy when the database
is not available in time. Text must not contain NUL: the code that takes it from a request checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from relay.registry.model import (
    AdmissionResult,
    AttemptOutcome,
    Beat,
    Device,
    History,
    NewPush,
    Platform,
    Pruned,
    Push,
    Server,
    Trimmed,
)
from relay.registry.rules import Rate

NotificationHandler = Callable[[str, bytes], None]
"""Called with (channel, data) in every worker and replica that listens, the sender included."""


class UsedNonces(Protocol):
    async def use_nonce(self, nonce: bytes, until: int) -> bool:
        """True for the first use of a nonce of up to 64 bytes; it is stored until `until`."""


class Presence(Protocol):
    """The time for which a relay on this database was up, of all relays together."""

    async def beat(self, now: float) -> Beat:
        """A relay is up at the Unix time `now`; each minute counts once, however many relays report it."""

    async def forget_after(self, now: float) -> None:
        """Delete the days with a report later than `now`: the clock that made it was ahead."""

    async def claim_sweep(self, now: float) -> bool:
        """True for one caller a day, after a beat of that day."""

    async def silent_before(self, days: int) -> int | None:
        """See `rules.silent_before`. Rows older than MAX_PRESENCE_DAYS of presence are deleted."""

    async def count_silent(self, before: int, limit: int) -> int:
        """The number of devices last seen before `before` and not evicted, counted up to `limit`."""


class DeviceRegistry(UsedNonces, Protocol):
    async def register(self, device: Device) -> None:
        """The last write wins; an eviction is forgotten. Queued pushes follow the device to its new platform."""

    async def unregister(self, fingerprint: bytes) -> bool:
        """Forget the device and its histories; its queued pushes end as not_registered."""

    async def device(self, fingerprint: bytes) -> Device | None: ...

    async def mark_seen(self, fingerprint: bytes, now: int) -> None:
        """The device was in contact, or a push to it was accepted: its count of failures is reset.

        Written at most once in SEEN_EVERY_SECONDS, so that frequent calls are cheap."""

    async def record_failure(self, fingerprint: bytes, token: bytes) -> int:
        """One more failure in a row of the sealed `token`; returns the number. 0 if the device has another token."""

    async def evict(self, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        """Mark the sealed `token` dead and overwrite it; the queued pushes of the device end as token_evicted.

        False when the device has another token by now: it registered again, perhaps in the same second, or its token
        was already evicted."""

    async def count_devices(self) -> dict[str, int]:
        """By platform; evicted ones under "evicted"."""

    async def devices(self, after: bytes, limit: int) -> list[Device]:
        """Those with a fingerprint greater than `after`, in the order of fingerprints."""

    async def reseal(self, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        """Replace a sealed token, if it is still `old`."""

    async def prune(self, seen_before: int, evicted_before: int, now: int) -> Pruned:
        """Evict devices last seen before `seen_before` (SILENT), and delete evictions from before `evicted_before`.

        At most PRUNE_BATCH of each; zero of both means that nothing is left."""

    async def trim(self, max_devices: int, max_unused: int) -> Trimmed:
        """Delete the unused registrations above `max_unused`, those first that were not seen for the longest time; and
        above `max_devices` in total, evicted ones and then more of the unused. At most PRUNE_BATCH of each in a call,
        and nothing while another call is at it: two that counted the same excess would delete it twice."""


class ServerRegistry(UsedNonces, Protocol):
    async def server(self, server_id: bytes) -> Server | None: ...

    async def servers(self) -> list[Server]: ...

    async def trust(self, server: Server) -> None:
        """Add the server, or replace its name and key."""

    async def trust_first(self, server: Server) -> bool:
        """Add the server if none is known. True also when this very server is already known."""

    async def distrust(self, server_id: bytes) -> bool: ...


class PushQueue(Protocol):
    async def admit(
        self, server_id: bytes, requested: Sequence[NewPush], now: float, rate: Rate
    ) -> list[AdmissionResult]:
        """Apply the rule `admit` and store the admitted pushes; their devices become used. A clear withdraws the push
        with its collapse_id that waits for its device and was not sent: the push fails as CLEARED, and the clear is
        stored as delivered. Beyond MAX_HELD queued pushes of this server to a device, and MAX_HELD_BY_DEVICE of all
        servers, pushes fail as SUPERSEDED: the oldest of the server that has the most, and within a server those of
        the owner that has the most. Fingerprints of admitted websocket pushes are sent on channel
        PUSHES, 16 bytes each."""

    async def record_outcomes(self, outcomes: Sequence[AttemptOutcome], now: float) -> None:
        """Write outcomes of attempts. A push that is no longer queued loses its payload, and never changes again,
        except to delivered. An outcome `queued` without `due` is due `now`."""

    async def outcomes(self, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]: ...

    async def pending_for(self, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        """Queued websocket pushes of devices, the oldest first, at most MAX_HELD_BY_DEVICE each. The caller sends them,
        so that a clear no longer withdraws them.
        """

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        """The device has the push: it becomes delivered, and its payload is deleted. None when this device has no such
        push. A repeat also returns the push."""

    async def claim(
        self, platform: Platform, now: float, limit: int, skip: Collection[bytes] = ()
    ) -> list[tuple[Push, Device]]:
        """Queued pushes to a platform that are due, for this caller alone for LEASE_SECONDS; `attempts` is incremented.
        The queue of one platform does not slow down the search for due pushes of another, and the servers take turns:
        the longest due push of each, then the second of each, and so on. Pushes of servers in `skip` stay.

        At most `limit` rows are read. Those that have expired, or without a device, end instead of being attempted."""

    async def sweep(self, now: float, limit: int) -> int:
        """Delete expired pushes, nonces and buckets, `limit` of each; the number. Below `limit`: none are left. The
        newest MAX_HISTORY expired pushes of a server to a registered device enter their history, in the same
        transaction."""

    async def history(self, server_id: bytes, first: bytes, last: bytes, now: float) -> History | None:
        """The newest pushes of this server to a device, and its registration. `first` and `last` are the least and the
        greatest fingerprint with the beginning that is searched for, among the devices to which this server has a push
        that is remembered; equal for a whole fingerprint, which needs no such push. None: no such device.
        AmbiguousFingerprint: several."""

    async def forget_histories(self, limit: int, before: int) -> int:
        """Delete histories whose newest push is from before `before`, and above `limit` in total the oldest of the
        server that has the most. At most PRUNE_BATCH of each in a call; the number. Zero also while another call is at
        it."""

    async def first_due(self) -> float | None:
        """When the queued push to a provider that is due first is due; None without one. For a gauge: never a scan."""

    async def backlog(self) -> int:
        """The number of queued pushes, for a gauge: an estimate at times, never a scan (see BACKLOG_COUNT_LIMIT)."""


class DeliveryRegistry(DeviceRegistry, PushQueue, Protocol):
    """Devices and their pushes, in one database: for delivery."""


class LoopRegistry(DeliveryRegistry, Presence, Protocol):
    """For the background loops."""


class Notifier(Protocol):
    async def notify(self, channel: str, data: bytes) -> None:
        """Send at most MAX_NOTIFICATION_BYTES bytes to all listeners."""


class Registry(DeliveryRegistry, ServerRegistry, Presence, Notifier, Protocol):
    """All ports of one database, and its lifecycle: for the composition root and for commands."""

    async def open(self, on_notification: NotificationHandler, *, migrate: bool = True) -> None:
        """Migrate, and listen. Without `migrate` the database must exist, at the schema of this version. After a lost
        connection `on_notification("lost", b"")` reports that some notifications may be missing.

        Raises RegistryUnusable."""

    async def close(self) -> None: ...

    async def check(self) -> None:
        """RegistryBusy unless the database answers."""
