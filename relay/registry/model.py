"""The values of the registry, its limits and its errors. This module needs no database driver.

All times are Unix seconds that the caller gives. Fingerprints and server_ids are 32 raw bytes here. Tokens and payloads
arrive sealed (see `sealing`); the code that reads them opens them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Platform = Literal["apns", "fcm", "websocket", "webpush"]
PROVIDERS: tuple[Platform, ...] = ("apns", "fcm", "webpush")
"""Platforms to which the relay sends. Pushes for a WebSocket wait in the registry for their device."""
Status = Literal["delivered", "queued", "not_registered", "token_evicted", "rate_limited", "failed"]
Priority = Literal["high", "normal"]

MAX_HELD = 20
"""Queued pushes of one server to one device; beyond it the oldest are superseded."""
MAX_HELD_BY_DEVICE = 60
"""Queued pushes of one device; beyond it the oldest of the servers that have the most are superseded."""
LEASE_SECONDS = 30
"""How long one attempt belongs to a worker, before another worker may claim the push."""
CLEARED_MINUTES = 5
"""The lifetime of a challenge: all that was pushed to a device in this time may have to be cleared at once."""
SUPERSEDED = "superseded"
CLEARED = "cleared"
"""The error of a push that its clear withdrew before it was sent."""
SILENT = "silent"
"""The reason of an eviction: the device was silent for too long."""
UNUSED = "unused"
"""The reason of a deletion: there are too many registrations that no server has sent a push to."""
MAX_HISTORY = 10
"""The newest pushes of a server to a device that are remembered after they have expired."""
HISTORY_SECONDS = 7 * 86_400
"""How long they are remembered, counted from the creation of the newest."""
MAX_PRESENCE_DAYS = 366
"""So many days of presence are stored, the newest."""
SEEN_EVERY_SECONDS = 3600
"""`seen_at` may lag by this much: a row that is written at each push would be most of the writes."""
PRUNE_BATCH = 1000
BACKLOG_COUNT_LIMIT = 10_000
"""The backlog is counted up to this number; a larger one is an estimate."""
MAX_NOTIFICATION_BYTES = 4000
"""Bytes of one `notify`: PostgreSQL carries less than 8000 of text."""
PUSHES = "pushes"
"""The notification channel for devices that have a new push to fetch."""
DELETED = "deleted"
"""The notification channel for devices whose registration was deleted, 16 bytes of the fingerprint of each."""


class Device(msgspec.Struct, frozen=True):
    """A registration. `evicted` gives the reason why its token is dead; the device has to register again. `used`: a
    server has sent a push to it."""

    fingerprint: bytes
    public_key: bytes
    platform: Platform
    token: bytes
    registered_at: int
    seen_at: int = 0
    failures: int = 0
    evicted: str | None = None
    used: bool = False


class Server(msgspec.Struct, frozen=True):
    """A server whose pushes are accepted. `public_key` is empty before its first request: only its id is known.

    `listed`: trusted by the settings alone, not by an operator. An operator's trust survives any later registration.
    """

    server_id: bytes
    public_key: bytes
    name: str
    trusted_at: int
    listed: bool = False


class NewPush(msgspec.Struct, frozen=True):
    """One push as a server requested it, its payload sealed. `exempt` from the rate of other pushes: a `clear`.

    `owner` is the server's name for the requester, "" without one. `traceparent` (25 bytes) is the span that created
    the push at its server; None unless its trace is sampled.
    """

    push_id: bytes
    push_key: str
    fingerprint: bytes
    payload: bytes
    expires_at: int
    collapse_id: str | None = None
    priority: Priority = "high"
    exempt: bool = False
    owner: str = ""
    traceparent: bytes | None = None

    @property
    def subject(self) -> tuple[bytes, str] | None:
        """What a clear dismisses: the notification with this collapse_id, of this server, on that device."""
        return (self.fingerprint, self.collapse_id) if self.exempt and self.collapse_id else None

    @property
    def bucket(self) -> bytes:
        """The rate bucket of its server that it counts in: that of its owner and device, or the one of their clears."""
        bucket = self.fingerprint + self.owner.encode()
        return b"clear" + bucket if self.exempt else bucket


class Push(msgspec.Struct, frozen=True):
    """A push that is stored until `expires_at`, with its payload as long as it is queued.

    `due` is the time of the next attempt; 0 for a push that waits for its device or has a final status. `attempts`
    counts the claims; of a push that waits for its device, 1 once a connection of the device got it. `ended_at`: the
    time of the final status; None also for a push that ended with its registration.
    """

    server_id: bytes
    push: NewPush
    platform: Platform
    status: Status = "queued"
    error: str | None = None
    due: float = 0
    attempts: int = 0
    created_at: float = 0
    ended_at: float | None = None


class PastPush(NamedTuple):
    """A push as its server may read it again, without its payload. A stored entry has these members in this order."""

    created_at: float
    ended_at: float | None
    push_id: str
    push_key: str
    platform: Platform
    status: Status
    error: str | None
    attempts: int
    """The attempts of a provider, or of a push for a WebSocket 1 once a connection of the device got it."""
    due: float = 0
    """Of a queued push for a provider: the time of the next attempt."""


class History(NamedTuple):
    """Of one device and one server: the registration, when its token was evicted, and the newest MAX_HISTORY pushes,
    the newest first."""

    fingerprint: bytes
    device: Device | None
    evicted_at: int | None
    pushes: list[PastPush]


class AdmissionResult(NamedTuple):
    """The result of one push of a request. `device` is set when this caller has to deliver the push."""

    status: Status
    push_id: bytes | None
    platform: Platform | None
    error: str | None = None
    device: Device | None = None


class AttemptOutcome(NamedTuple):
    """The outcome of one attempt: final, or `queued` with another attempt at `due`."""

    server_id: bytes
    push_key: str
    status: Status
    error: str | None = None
    due: float = 0


class Bucket(NamedTuple):
    """The theoretical arrival time (seconds) of the generic cell rate algorithm, for one (server, `NewPush.bucket`)."""

    name: bytes
    paid_until: float


class Pruned(NamedTuple):
    """The number of evicted tokens, and of deleted evictions."""

    evicted: int
    forgotten: int


class Beat(NamedTuple):
    """The newest beat before this one, of any relay, and the time of the database's own clock if it has one: Unix
    seconds."""

    previous: int | None
    database_time: float | None


class Trimmed(NamedTuple):
    """The fingerprints of deleted registrations, and the number of those left. `replaceable`: some of those left are
    evicted or unused, and the next `trim` deletes them if others come."""

    deleted: list[bytes]
    total: int
    replaceable: bool


class RegistryBusy(Exception):
    """No connection within the time, or the database is unreachable: HTTP 503, and nothing was decided.

    Except when the connection broke at the commit: then it may have been decided, and a repeat finds the result.
    """


class AmbiguousFingerprint(Exception):
    """Several devices of this server have fingerprints with this beginning."""


class RegistryUnusable(Exception):
    """The registry cannot be opened, and waiting will not help. One line with what to correct, without secrets."""
