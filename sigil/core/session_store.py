"""The session-store port: one transaction reads rows, asks a pure rule, and writes what the rule decided.

Everything that decides (answer, cancel, expiry, idempotency, pending limits) goes through
`SessionStore.transact`, so that it holds on any number of worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Row(Protocol):
    """A stored value: a frozen, array-like `msgspec.Struct`."""

    @property
    def due(self) -> int:
        """Unix second at which the expiry loop has to look at the row; 0 for never."""

    # Rows of a counted kind also say `open: bool`, those of one that reserves `reserved: int`.


class Kind(NamedTuple):
    """A family of rows: `tag` is the one byte that begins its keys, `type` the Struct it holds.

    Of a `counted` kind the store knows how many rows are open and due, without looking at them. Rows of a counted
    kind that is a `queue` are due only for who asks for that kind: however long it grows, nothing else waits behind it.
    Rows of a `long` kind may be much larger than a page. Of all kinds that `reserve` the store knows the sum of the
    bytes that their rows have `reserved` for what they lead to.
    """

    tag: bytes
    type: type[Any]
    counted: bool = False
    queue: bool = False
    reserves: bool = False
    long: bool = False


class Key(NamedTuple):
    """The place of a row; `name` is at most 64 bytes."""

    kind: Kind
    name: bytes

    @property
    def raw(self) -> bytes:
        return self.kind.tag + self.name


class Decision(msgspec.Struct, Generic[T_co], frozen=True):
    """What a rule decided: the caller's result, and what the same transaction writes.

    `writes` replaces rows (None deletes); `ended` appends ids to the bounded log of ends
    that wakes long polls on every worker.
    """

    result: T_co
    writes: tuple[tuple[Key, Any], ...] = ()
    ended: tuple[bytes, ...] = ()


def with_ended_flag(decided: Decision[T]) -> Decision[tuple[T, bool]]:
    """The same, and whether this very decision ended something: of several at once one did, and tells of it."""
    return Decision((decided.result, bool(decided.ended)), decided.writes, decided.ended)


Rule = Callable[[float, tuple[Any, ...]], Decision[T]]
"""`rule(now, rows)`: pure and synchronous; may be called twice; an exception aborts and writes nothing.

`now` is the store's clock (Unix seconds), read inside the transaction; `rows` stand in the order of the keys.
"""


class EndLogTail(NamedTuple):
    """The tail of the log of ends after a position; `lost`: the log had already dropped part of it."""

    position: int
    ids: tuple[bytes, ...]
    truncated: bool


class Usage(NamedTuple):
    """Bytes in use, bytes there are, and bytes that rows have reserved: a count, nothing keeps them free by itself."""

    used: int
    size: int
    reserved: int


class StoreFull(Exception):
    """No room for a new row: only creations meet it, the reserve is kept for everything else."""


class StoreUnusable(Exception):
    """The store cannot be read or written; the message says why, for the log."""


class SessionStore(Protocol):
    """State shared by all workers of a host."""

    async def get(self, key: Key) -> Any | None: ...

    async def transact(self, keys: Sequence[Key], rule: Rule[T], *, creates: bool = False) -> T:
        """Read `keys`, call `rule`, write its decision, all in one transaction.

        With `creates=True`, raises StoreFull before the rule is called when less than the reserve is free.
        """

    async def due(self, now: float, limit: int, queue: Kind | None = None) -> list[Key]:
        """The keys with 0 < due <= now, the longest due first, at most `limit`: of all kinds but queues, or of one."""

    async def ends(self, after: int | None) -> EndLogTail:
        """What ended after a position; None asks for the present position alone."""

    def usage(self) -> Usage: ...

    def count(self, kind: Kind) -> int:
        """How many rows of a counted kind are open and due at some time."""

    async def check(self) -> None:
        """Raise StoreUnusable unless a transaction can be made."""

    async def clean(self) -> None:
        """Free what dead processes left behind (reader slots); cheap, called by the expiry loop."""

    def close(self) -> None: ...
