"""The session-store port: one transaction reads rows, calls a pure rule, and writes what the rule decided.

Every decision (answer, cancel, expiry, idempotency, pending limits) goes through `SessionStore.transact`, so that it
holds across any number of worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Row(Protocol):
    """A stored value: a frozen, array-like `msgspec.Struct`."""

    @property
    def due(self) -> int:
        """Unix second from which the expiry sweep handles the row; 0 for never."""

    # Rows of a counted kind also have `open: bool`, rows of a kind that reserves have `reserved: int`, and rows of a
    # tallied kind have `share: Share`.


class Kind(NamedTuple):
    """A family of rows: `tag` is the one byte that begins its keys, `type` the Struct of its rows.

    For a `counted` kind the store knows how many rows are open and due, without reading them. Rows of a counted kind
    that is a `queue` are due only in a query for that kind: a long queue delays no other kind. Rows of a `long` kind
    may be much larger than a page. For kinds with `reserves` the store keeps the sum of what their rows `reserved`, in
    bytes. The rows of a queue that is `fair` have an `owner` of OWNER_BYTES, and a query for them serves the owners in
    turn. For `tallied` kinds the store adds up the shares of the rows of each owner in its Tally.
    """

    tag: bytes
    type: type[Any]
    counted: bool = False
    queue: bool = False
    reserves: bool = False
    long: bool = False
    tallied: bool = False
    fair: bool = False


class Key(NamedTuple):
    """The key of a row; `name` is at most 64 bytes."""

    kind: Kind
    name: bytes

    @property
    def raw(self) -> bytes:
        return self.kind.tag + self.name


Share = tuple[bytes, int, int, int, int]
"""The first OWNER_BYTES of the owner of a row, and what the row adds to `pending`, `events`, `charged` and `enrolments`
of its Tally.

A plain tuple, since two are made for each row that is written."""


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the rows of one owner add up to: pending challenges and requests, webhook events, the bytes charged, and
    open enrolments.

    The store writes it in the transactions that write the rows. A rule may read it, and never writes it.
    """

    pending: int = 0
    events: int = 0
    charged: int = 0
    enrolments: int = 0

    @property
    def due(self) -> int:
        return 0


TALLY = Kind(b"y", Tally)
OWNER_BYTES = 8
"""Enough to distinguish owners: their ids are random, and only the operator creates them. Rows must stay small."""
CREATION_RESERVE = 0.15
"""The share of the store that creations leave free."""


@lru_cache(maxsize=1024)
def tally_key(owner: bytes) -> Key:
    return Key(TALLY, owner[:OWNER_BYTES])


class Decision(msgspec.Struct, Generic[T_co], frozen=True):
    """What a rule decided: the caller's result, and what the same transaction writes.

    `writes` replaces rows (None deletes); `ended` appends ids to the bounded end log, which wakes long polls on every
    worker.
    """

    result: T_co
    writes: tuple[tuple[Key, Any], ...] = ()
    ended: tuple[bytes, ...] = ()


def with_ended_flag(decided: Decision[T]) -> Decision[tuple[T, bool]]:
    """The same with a flag: whether this decision ended something. Of several at the same time, one did."""
    return Decision((decided.result, bool(decided.ended)), decided.writes, decided.ended)


Rule = Callable[[float, tuple[Any, ...]], Decision[T]]
"""`rule(now, rows)`: pure and synchronous; may be called twice; an exception aborts and writes nothing.

`now` is the store's clock (Unix seconds), read inside the transaction; `rows` are in the order of the keys.
"""


class EndLogTail(NamedTuple):
    """The end log after a position; `truncated`: the log had already dropped part of it."""

    position: int
    ids: tuple[bytes, ...]
    truncated: bool


class Usage(NamedTuple):
    """Bytes in use, bytes in total, and bytes that rows have reserved: a sum, which by itself keeps nothing free."""

    used: int
    size: int
    reserved: int


class StoreFull(Exception):
    """No space for a new row. Only creations get this error: the reserve is kept for everything else."""


class StoreUnusable(Exception):
    """The store cannot be read or written; the message says why, for the log."""


class SessionStore(Protocol):
    """State shared by all workers of a host."""

    def now(self) -> float:
        """The store's clock (Unix seconds): never earlier than any time that a worker has had before.

        Every decision uses it. It may be ahead of the time of day, when that was set back."""

    async def get(self, key: Key) -> Any | None: ...

    def peek(self, key: Key) -> Any | None:
        """`get` for a thread without a loop: a scrape of metrics."""

    async def transact(self, keys: Sequence[Key], rule: Rule[T], *, creates: bool = False) -> T:
        """Read `keys`, call `rule`, write its decision, all in one transaction.

        With `creates=True`, raises StoreFull before the rule is called when less than the reserve is free.
        """

    async def due(self, now: float, limit: int, queue: Kind | None = None) -> list[Key]:
        """At most `limit` keys with 0 < due <= now, the longest due first: of all kinds but queues, or of `queue`.

        When more are due in a fair queue, no owner has more of them than another one that also has more.
        """

    def head(self, queue: Kind, limit: int) -> list[Any]:
        """At most `limit` rows of a fair queue: those of the least due seconds, of its owners in turn, whether they are
        due or not. For a thread without a loop: a scrape of metrics.
        """

    def names(self, kind: Kind, beginning: bytes, limit: int) -> list[bytes]:
        """At most `limit` names of rows of a kind that begin so, in order, without a scan: for operator commands."""

    async def read_end_log(self, after: int | None) -> EndLogTail:
        """The ids that ended after a position; with None only the current position."""

    def usage(self) -> Usage: ...

    def count(self, kind: Kind) -> int:
        """How many rows of a counted kind are open and have a due time."""

    async def check(self) -> None:
        """Raise StoreUnusable unless the store can be read. It never waits for a writer."""

    async def clean(self) -> None:
        """Free the reader slots of dead processes; cheap, called by a loop of each worker."""

    def close(self) -> None: ...
