"""The contract of the session store, checked for every implementation."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sigil.core import session_store
from sigil.core.session_store import (
    Decision,
    EndLogTail,
    Key,
    Kind,
    Rule,
    SessionStore,
    Share,
    StoreFull,
    StoreUnusable,
    tally_key,
)
from sigil.store.lmdb import LmdbStore
from sigil.store.memory import MemoryStore


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    state: str
    due: int = 0
    note: bytes = b""

    @property
    def open(self) -> bool:
        return self.state != "closed"


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    reserved: int
    due: int = 0


class Tally(msgspec.Struct, frozen=True, array_like=True):
    count: int

    @property
    def due(self) -> int:
        return 0


class Owned(msgspec.Struct, frozen=True, array_like=True):
    owner: bytes
    due: int = 0
    pending: int = 1
    charged: int = 0
    enrolments: int = 0

    @property
    def open(self) -> bool:
        return True

    @property
    def share(self) -> Share:
        return self.owner, self.pending, 0, self.charged, self.enrolments


TICKET = Kind(b"t", Ticket, counted=True)
TALLY = Kind(b"n", Tally)
QUEUED = Kind(b"q", Ticket, counted=True, queue=True)
RESERVING = Kind(b"p", Reservation, reserves=True)
ALSO_RESERVING = Kind(b"l", Reservation, reserves=True)
LONG = Kind(b"s", Ticket, counted=True, long=True)
FAIR = Kind(b"f", Owned, counted=True, queue=True, fair=True)
TALLIED = Kind(b"o", Owned, counted=True, tallied=True)
MiB = 1 << 20

OpenStore = Callable[..., SessionStore]


@pytest.fixture(params=["memory", "lmdb"])
def open_store(request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="sigil-test-", dir=memory if memory.is_dir() else None))
    opened: list[SessionStore] = []

    def open_one(**options: Any) -> SessionStore:
        settings = {
            "kinds": [TICKET, TALLY, QUEUED, RESERVING, ALSO_RESERVING, LONG, FAIR, TALLIED, session_store.TALLY],
            "clock": lambda: 1000.0,
            "size": MiB,
        } | options
        store = MemoryStore(**settings) if request.param == "memory" else LmdbStore(directory, **settings)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()
    shutil.rmtree(directory)


@pytest.fixture
def store(open_store: OpenStore) -> SessionStore:
    return open_store()


def ticket(name: str) -> Key:
    return Key(TICKET, name.encode())


def writing(*writes: tuple[Key, Any], ended: tuple[bytes, ...] = ()) -> Rule[None]:
    return lambda now, rows: Decision(None, writes, ended)


async def put(store: SessionStore, name: str, row: Any, *, creates: bool = False) -> None:
    await store.transact([], writing((ticket(name), row)), creates=creates)


async def fill(store: SessionStore) -> int:
    """Create tickets until creation is rejected; returns their number."""
    for count in range(10_000):
        try:
            await put(store, f"{count}", Ticket("pending", 50, bytes(900)), creates=True)
        except StoreFull:
            return count
    raise AssertionError("the store never filled")


async def test_a_row_that_was_never_written_is_none(store: SessionStore) -> None:
    assert await store.get(ticket("a")) is None


async def test_a_written_row_is_read_back(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending", 7, b"n"))
    assert await store.get(ticket("a")) == Ticket("pending", 7, b"n")
    assert store.peek(ticket("a")) == Ticket("pending", 7, b"n")


async def test_rows_of_different_kinds_may_have_the_same_name(store: SessionStore) -> None:
    await store.transact([], writing((ticket("a"), Ticket("x")), (Key(TALLY, b"a"), Tally(3))))
    assert await store.get(ticket("a")) == Ticket("x")
    assert await store.get(Key(TALLY, b"a")) == Tally(3)


async def test_a_row_read_is_a_copy(store: SessionStore) -> None:
    row = Ticket("pending")
    await put(store, "a", row)
    assert await store.get(ticket("a")) is not row


async def test_a_rule_gets_the_rows_in_the_order_of_the_keys_and_its_result_is_returned(store: SessionStore) -> None:
    await put(store, "a", Ticket("first"))
    await put(store, "b", Ticket("second"))

    def states(now: float, rows: tuple[Any, ...]) -> Decision[list[str | None]]:
        return Decision([row and row.state for row in rows])

    keys = [ticket("b"), ticket("missing"), ticket("a"), ticket("b")]
    assert await store.transact(keys, states) == ["second", None, "first", "second"]


async def test_a_rule_gets_the_time_of_the_store(open_store: OpenStore) -> None:
    store = open_store(clock=lambda: 1234.5)
    assert await store.transact([], lambda now, rows: Decision(now)) == 1234.5
    assert store.now() == 1234.5


async def test_a_write_of_none_deletes(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending", 7))
    await put(store, "a", None)
    assert await store.get(ticket("a")) is None
    assert await store.due(100, 10) == []


async def test_deleting_a_missing_row_is_no_error(store: SessionStore) -> None:
    await put(store, "a", None)
    assert await store.get(ticket("a")) is None


async def test_the_last_of_several_writes_to_one_key_counts(store: SessionStore) -> None:
    await store.transact([], writing((ticket("a"), Ticket("x", 5)), (ticket("a"), None), (ticket("a"), Ticket("y", 6))))
    assert await store.get(ticket("a")) == Ticket("y", 6)
    assert await store.due(5, 10) == []
    assert await store.due(6, 10) == [ticket("a")]


async def test_an_exception_of_the_rule_propagates_and_writes_nothing(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending", 7))

    def refuse(now: float, rows: tuple[Any, ...]) -> Decision[None]:
        raise LookupError("refused")

    with pytest.raises(LookupError, match="refused"):
        await store.transact([ticket("a")], refuse)
    assert await store.get(ticket("a")) == Ticket("pending", 7)


@pytest.mark.parametrize(
    "bad",
    [
        (Key(Kind(b"?", Ticket), b"a"), Ticket("x")),
        (Key(Kind(b"t", Tally), b"a"), Tally(1)),
        (ticket("x" * 65), Ticket("x")),
        (ticket("b"), Ticket("x", due=-1)),
        (ticket("b"), Ticket("x", due=1 << 32)),
        (ticket("b"), Ticket("x", note=bytes(2 * MiB))),
        (ticket("b"), Tally(1)),
    ],
    ids=["kind", "type of kind", "long name", "negative due", "late due", "long row", "row of another kind"],
)
async def test_one_invalid_write_rejects_the_whole_decision(open_store: OpenStore, bad: tuple[Key, Any]) -> None:
    store = open_store(size=8 * MiB)
    with pytest.raises((ValueError, TypeError)):
        await store.transact([], writing((ticket("good"), Ticket("x", 7)), bad, ended=(b"e",)))
    assert await store.get(ticket("good")) is None
    assert await store.due(100, 10) == []
    assert (await store.read_end_log(None)).position == 0


async def test_two_hundred_writes_are_allowed_and_one_more_is_not(store: SessionStore) -> None:
    writes = [(ticket(str(number)), Ticket("x")) for number in range(201)]
    with pytest.raises(ValueError, match="at most 200"):
        await store.transact([], writing(*writes))
    assert await store.get(ticket("0")) is None
    await store.transact([], writing(*writes[:200]))
    assert await store.get(ticket("199")) == Ticket("x")


@pytest.mark.parametrize("ended", [(b"",), (b"x" * 65,), (b"x",) * 201], ids=["empty", "long", "many"])
async def test_invalid_ended_ids_are_rejected(store: SessionStore, ended: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="are allowed"):
        await store.transact([], writing(ended=ended))
    assert (await store.read_end_log(None)).position == 0


async def test_a_name_may_have_64_bytes_of_any_value(store: SessionStore) -> None:
    key = Key(TICKET, bytes(range(192, 256)))
    await store.transact([], writing((key, Ticket("x", 5))))
    assert await store.due(5, 1) == [key]


async def test_reading_an_unknown_kind_or_a_long_name_is_an_error(store: SessionStore) -> None:
    for key in (Key(Kind(b"?", Ticket), b"a"), ticket("x" * 65)):
        with pytest.raises(ValueError, match=r"kind|bytes"):
            await store.get(key)
        with pytest.raises(ValueError, match=r"kind|bytes"):
            await store.transact([key], writing())


@pytest.mark.parametrize("tags", [(b"a", b"a"), (b"",), (b"ab",)])
def test_every_kind_needs_its_own_tag_of_one_byte(open_store: OpenStore, tags: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="its own tag"):
        open_store(kinds=[Kind(tag, Ticket) for tag in tags])


async def test_rows_are_due_longest_first_and_not_before_their_second(store: SessionStore) -> None:
    for name, due in [("c", 300), ("a", 100), ("never", 0), ("b", 200), ("last", (1 << 32) - 1)]:
        await put(store, name, Ticket("pending", due))
    assert await store.due(0, 10) == []
    assert await store.due(99.999, 10) == []
    assert await store.due(100, 10) == [ticket("a")]
    assert await store.due(299.5, 10) == [ticket("a"), ticket("b")]
    assert await store.due(1e12, 10) == [ticket("a"), ticket("b"), ticket("c"), ticket("last")]


async def test_due_returns_at_most_limit_rows(store: SessionStore) -> None:
    for number in range(9):
        await put(store, str(number), Ticket("pending", 10 + number))
    assert await store.due(100, 3) == [ticket("0"), ticket("1"), ticket("2")]
    assert await store.due(100, 0) == []


async def test_a_changed_due_time_moves_a_row_in_the_index(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending", 100))
    await store.transact([ticket("a")], writing((ticket("a"), Ticket("pending", 300))))
    assert await store.due(200, 10) == []
    assert await store.due(300, 10) == [ticket("a")]
    await put(store, "a", Ticket("pending", 50))
    assert await store.due(300, 10) == [ticket("a")]


async def test_a_row_whose_due_becomes_0_is_never_due(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending", 100))
    await put(store, "a", Ticket("done", 0))
    assert await store.due(1e9, 10) == []
    assert await store.get(ticket("a")) == Ticket("done", 0)


async def test_of_concurrent_decisions_one_wins(store: SessionStore) -> None:
    await put(store, "a", Ticket("pending"))

    def answer(now: float, rows: tuple[Any, ...]) -> Decision[bool]:
        if rows[0].state != "pending":
            return Decision(False)
        return Decision(True, ((ticket("a"), Ticket("answered")),))

    won = await asyncio.gather(*(store.transact([ticket("a")], answer) for _ in range(50)))
    assert sum(won) == 1


async def test_concurrent_increments_lose_none(store: SessionStore) -> None:
    key = Key(TALLY, b"")

    def count(now: float, rows: tuple[Any, ...]) -> Decision[None]:
        return Decision(None, ((key, Tally(1 + (rows[0].count if rows[0] else 0))),))

    await asyncio.gather(*(store.transact([key], count) for _ in range(200)))
    assert await store.get(key) == Tally(200)


async def test_creation_is_rejected_in_the_reserve_and_its_rule_is_not_called(store: SessionStore) -> None:
    await fill(store)
    used, size, _ = store.usage()
    assert 0.8 * size < used < 0.95 * size

    def unexpected(now: float, rows: tuple[Any, ...]) -> Decision[None]:
        raise AssertionError("the rule was called")

    with pytest.raises(StoreFull):
        await store.transact([], unexpected, creates=True)


async def test_every_row_can_be_answered_when_creation_is_rejected(store: SessionStore) -> None:
    for number in range(await fill(store)):
        key = ticket(str(number))
        answered = Ticket("answered", 60, bytes(900))
        await store.transact([key], writing((key, answered), ended=(key.name,)))
    assert len(await store.due(60, 10_000)) == len((await store.read_end_log(0)).ids) > 500


async def test_creation_is_possible_again_after_deletions(store: SessionStore) -> None:
    for _ in range(3):
        count = await fill(store)
        assert count > 500
        for number in range(count):
            await put(store, str(number), None)
        assert store.usage().used < 0.1 * MiB


async def test_a_full_store_rejects_a_write_and_keeps_its_rows(store: SessionStore) -> None:
    written = 0
    with contextlib.suppress(StoreFull):
        while written < 100:
            await store.transact([], writing((ticket(f"{written}"), Ticket("x", 9, bytes(50_000))), ended=(b"e",)))
            written += 1
    assert 5 < written < 100
    assert await store.get(ticket(f"{written}")) is None
    assert (await store.read_end_log(None)).position == len(await store.due(9, 1000)) == written
    for number in range(written):
        assert await store.get(ticket(f"{number}")) == Ticket("x", 9, bytes(50_000))


async def test_usage_grows_with_rows_and_shrinks_with_deletions(store: SessionStore) -> None:
    empty = store.usage()
    assert empty.size == MiB
    for number in range(100):
        await put(store, str(number), Ticket("x", 0, bytes(1000)))
    assert store.usage().used >= empty.used + 100_000
    for number in range(100):
        await put(store, str(number), None)
    assert store.usage().used < 20_000


async def test_open_rows_of_a_counted_kind_are_counted_while_they_are_due(store: SessionStore) -> None:
    for number in range(5):
        await put(store, str(number), Ticket("new", 50 + number))
    await put(store, "never due", Ticket("new"))
    assert store.count(TICKET) == 5
    await put(store, "0", Ticket("closed", 90))
    await put(store, "1", Ticket("closed", 51))
    await put(store, "2", Ticket("other", 40))
    await put(store, "3", None)
    assert store.count(TICKET) == 2
    assert [key.name for key in await store.due(100, 10)] == [b"2", b"1", b"4", b"0"]
    assert [key.name for key in await store.due(100, 2)] == [b"2", b"1"]
    await put(store, "0", Ticket("new", 90))
    assert store.count(TICKET) == 3


async def test_long_rows_grow_shrink_and_are_deleted_like_all_others(open_store: OpenStore) -> None:
    store = open_store(size=8 * MiB)
    one, other = Key(LONG, b"1"), Key(LONG, b"1\0")
    neighbour, empty = Ticket("new", 8, bytes(range(256)) * 9), store.usage().used
    await store.transact([], writing((other, neighbour)))
    # Around the size of one chunk, changed in one place, and up to the largest row.
    for length in (0, 1880, 1890, 1900, 3790, 36_000, 3790, 500, 36_000, (1 << 20) - 30):
        for note in (bytes(length), bytes(length // 2) + b"+" + bytes(length - length // 2)):
            row = Ticket("new", 7, note)
            await store.transact([one], writing((one, row)))
            assert await store.get(one) == row
            assert await store.transact([one, other], lambda now, rows: Decision(rows)) == (row, neighbour)
    await store.transact([], writing((one, Ticket("x", 7, bytes(9000))), (one, Ticket("closed", 9, bytes(4000)))))
    assert await store.get(one) == Ticket("closed", 9, bytes(4000))
    assert await store.due(9, 5) == [other, one]
    await store.transact([], writing((one, Ticket("x", 7, bytes(9000))), (one, None)))
    assert await store.get(one) is None
    assert await store.get(other) == neighbour
    await store.transact([], writing((other, None)))
    assert store.usage().used == empty


async def test_the_sum_of_reserved_bytes_follows_every_change_of_the_rows(store: SessionStore) -> None:
    one, two, other = Key(RESERVING, b"1"), Key(RESERVING, b"2"), Key(ALSO_RESERVING, b"1")
    assert store.usage().reserved == 0
    await store.transact([], writing((one, Reservation(500, 7)), (two, Reservation(30)), (other, Reservation(4))))
    assert store.usage().reserved == 534
    # Read by the rule or not, due at another time or not; the last of several writes counts.
    await store.transact([one], writing((one, Reservation(200, 7))))
    await store.transact([], writing((two, Reservation(900)), (two, Reservation(20, 9))))
    assert store.usage().reserved == 224
    assert await store.due(8, 10) == [one]
    await store.transact([], writing((one, None), (Key(RESERVING, b"3"), None), (two, Reservation(0))))
    assert store.usage().reserved == 4
    with pytest.raises(ZeroDivisionError):
        await store.transact([other], lambda now, rows: 1 // 0)
    await store.transact([other], writing((other, None), (other, Reservation(1)), (other, None)))
    assert store.usage().reserved == 0


async def test_rows_of_a_queue_are_due_and_counted_separately(store: SessionStore) -> None:
    keys = [Key(QUEUED, b"%d" % number) for number in range(3)]
    for number, key in enumerate(keys):
        await store.transact([key], writing((key, Ticket("new", 10 + number))))
    await put(store, "a", Ticket("new", 12))
    assert await store.due(100, 10) == [ticket("a")]
    assert await store.due(100, 10, QUEUED) == keys
    assert await store.due(11, 10, QUEUED) == keys[:2]
    assert await store.due(100, 1, QUEUED) == keys[:1]
    await store.transact(keys[:1], writing((keys[0], Ticket("new", 20))))
    assert await store.due(100, 10, QUEUED) == [*keys[1:], keys[0]]
    await store.transact(keys[:1], writing((keys[0], None)))
    assert (store.count(QUEUED), store.count(TICKET)) == (2, 1)


async def test_a_new_end_log_is_empty(store: SessionStore) -> None:
    assert await store.read_end_log(None) == EndLogTail(0, (), False)
    assert await store.read_end_log(0) == EndLogTail(0, (), False)


async def test_the_end_log_is_read_in_order_after_a_position(store: SessionStore) -> None:
    await store.transact([], writing(ended=(b"a", b"b")))
    before = await store.read_end_log(None)
    await store.transact([], writing(ended=(b"c",)))
    await store.transact([], writing(ended=(b"d", b"c")))
    assert (await store.read_end_log(0)).ids == (b"a", b"b", b"c", b"d", b"c")
    tail = await store.read_end_log(before.position)
    assert (tail.ids, tail.truncated) == ((b"c", b"d", b"c"), False)
    assert await store.read_end_log(tail.position) == EndLogTail(tail.position, (), False)
    assert await store.read_end_log(None) == EndLogTail(tail.position, (), False)


async def test_the_end_log_keeps_the_newest_ids_and_reports_a_truncation(open_store: OpenStore) -> None:
    store = open_store(end_log_size=3)
    for name in (b"a", b"b", b"c", b"d", b"e"):
        await store.transact([], writing(ended=(name,)))
    assert await store.read_end_log(0) == EndLogTail(5, (b"c", b"d", b"e"), True)
    assert await store.read_end_log(1) == EndLogTail(5, (b"c", b"d", b"e"), True)
    assert await store.read_end_log(2) == EndLogTail(5, (b"c", b"d", b"e"), False)
    assert await store.read_end_log(4) == EndLogTail(5, (b"e",), False)


async def test_more_ended_ids_in_one_decision_than_the_log_size_advance_the_position_by_all(
    open_store: OpenStore,
) -> None:
    store = open_store(end_log_size=2)
    await store.transact([], writing(ended=(b"a", b"b", b"c", b"d")))
    assert await store.read_end_log(0) == EndLogTail(4, (b"c", b"d"), True)


async def test_a_position_of_another_store_is_truncated(store: SessionStore) -> None:
    await store.transact([], writing(ended=(b"a",)))
    assert await store.read_end_log(9) == EndLogTail(1, (), True)


def test_an_end_log_size_of_zero_is_rejected(open_store: OpenStore) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        open_store(end_log_size=0)


async def test_check_and_clean_succeed_on_a_usable_store(store: SessionStore) -> None:
    await store.check()
    await store.clean()


async def test_a_closed_store_is_unusable(store: SessionStore) -> None:
    store.close()
    for call in (
        store.get(ticket("a")),
        store.transact([], writing()),
        store.due(1, 1),
        store.read_end_log(None),
        store.check(),
        store.clean(),
    ):
        with pytest.raises(StoreUnusable):
            await call
    with pytest.raises(StoreUnusable):
        store.usage()


def owner(number: int) -> bytes:
    return bytes([number]) * 8


async def enter(store: SessionStore, number: int, count: int, due: int) -> list[Key]:
    """Rows of one owner in the fair queue."""
    keys = [Key(FAIR, b"%d %d %d" % (number, due, name)) for name in range(count)]
    for start in range(0, count, 200):
        await store.transact([], writing(*((key, Owned(owner(number), due)) for key in keys[start : start + 200])))
    return keys


def owners_of(keys: list[Key]) -> list[int]:
    return sorted(int(key.name.split()[0]) for key in keys)


async def test_a_fair_queue_serves_all_owners_however_long_one_has_waited(store: SessionStore) -> None:
    await enter(store, 1, 500, 10)
    few, last = await enter(store, 2, 3, 20), await enter(store, 255, 30, 30)
    found = await store.due(100, 60, FAIR)
    assert len(found) == 60
    assert set(few) < set(found)
    assert len(set(last) & set(found)) >= 28
    assert [int(key.name.split()[1]) for key in found] == sorted(int(key.name.split()[1]) for key in found)


async def test_queries_of_a_fair_queue_for_few_rows_serve_the_owners_in_turn(store: SessionStore) -> None:
    for number in (0, 7, 255):
        await enter(store, number, 5, 10)
    assert owners_of([key for _ in range(3) for key in await store.due(100, 1, FAIR)]) == [0, 7, 255]
    served = [key for _ in range(3) for key in await store.due(100, 2, FAIR)]
    assert owners_of(served) == [0, 0, 7, 7, 255, 255]


async def test_a_fair_queue_gives_one_owner_all_when_no_other_has_due_rows(store: SessionStore) -> None:
    first, _ = await enter(store, 1, 50, 10), await enter(store, 2, 50, 200)
    assert await store.due(100, 40, FAIR) == sorted(first, key=lambda key: key.name)[:40]
    assert await store.due(9, 40, FAIR) == []
    assert set(await store.due(100, 100, FAIR)) == set(first)
    assert len(await store.due(200, 200, FAIR)) == 100
    assert store.count(FAIR) == 100


async def test_a_row_of_a_fair_queue_moves_with_its_due_time_and_goes(store: SessionStore) -> None:
    (key,) = await enter(store, 3, 1, 10)
    await store.transact([key], writing((key, Owned(owner(3), 50))))
    assert await store.due(49, 10, FAIR) == []
    assert await store.due(50, 10, FAIR) == [key]
    await store.transact([], writing((key, None)))
    assert await store.due(1000, 10, FAIR) == []
    assert store.count(FAIR) == 0


async def test_the_head_of_a_fair_queue_has_the_first_rows_of_all_owners_also_those_not_due_yet(
    store: SessionStore,
) -> None:
    assert store.head(FAIR, 10) == []
    await enter(store, 1, 50, 2_000_000_000)
    assert {row.due for row in store.head(FAIR, 10)} == {2_000_000_000}
    await enter(store, 1, 50, 100)
    await enter(store, 2, 1, 4_000_000_000)
    rows = store.head(FAIR, 10)
    assert len(rows) == 10
    assert {(row.owner, row.due) for row in rows} == {(owner(1), 100), (owner(2), 4_000_000_000)}
    assert len(store.head(FAIR, 200)) == 101
    if isinstance(store, MemoryStore):
        return
    # A scrape takes no turn of the deliveries.
    first = await store.due(4_000_000_000, 1, FAIR)
    assert len(store.head(FAIR, 1)) == 1
    assert owners_of(first + await store.due(4_000_000_000, 1, FAIR)) == [1, 2]


async def test_a_tally_is_the_sum_of_the_shares_of_an_owner(store: SessionStore) -> None:
    first, second, other = (Key(TALLIED, name) for name in (b"1", b"2", b"3"))
    await store.transact(
        [],
        writing(
            (first, Owned(owner(1), 5, charged=100)),
            (second, Owned(owner(1), charged=20, enrolments=3)),
            (other, Owned(owner(2))),
        ),
    )
    key = tally_key(owner(1) + b"the rest of the id")
    assert await store.get(key) == session_store.Tally(2, 0, 120, 3)
    assert await store.get(tally_key(owner(2))) == session_store.Tally(1, 0, 0)
    seen = await store.transact([key], lambda _now, rows: Decision(rows[0], ((second, None),)))
    assert seen == session_store.Tally(2, 0, 120, 3)
    await store.transact([first, key], writing((first, Owned(owner(1), 5, pending=0, charged=7))))
    assert await store.get(key) == session_store.Tally(0, 0, 7)
    await store.transact([], writing((first, None), (first, Owned(owner(1))), (first, None)))
    assert await store.get(key) is None


async def test_a_row_that_gets_another_owner_moves_to_its_tally_and_queue(store: SessionStore) -> None:
    tallied, (queued,) = Key(TALLIED, b"1"), await enter(store, 1, 1, 10)
    await store.transact([], writing((tallied, Owned(owner(1), charged=5))))
    await store.transact([queued], writing((tallied, Owned(owner(2), charged=7)), (queued, Owned(owner(2), 10))))
    assert await store.get(tally_key(owner(1))) is None
    assert await store.get(tally_key(owner(2))) == session_store.Tally(1, 0, 7)
    assert await store.due(10, 5, FAIR) == [queued]
    await store.transact([], writing((tallied, None), (queued, None)))
    assert await store.get(tally_key(owner(2))) is None
    assert (await store.due(10, 5, FAIR), store.count(FAIR)) == ([], 0)


async def test_a_failed_transaction_changes_no_tally(store: SessionStore) -> None:
    def refuse(now: float, rows: tuple[Any, ...]) -> Decision[None]:
        raise LookupError("refused")

    row = Key(TALLIED, b"1")
    await store.transact([], writing((row, Owned(owner(1), charged=5))))
    with pytest.raises(LookupError):
        await store.transact([row], refuse)
    with contextlib.suppress(ValueError):
        await store.transact([row], writing((row, Owned(owner(1), charged=9)), (ticket("x" * 65), None)))
    assert await store.get(tally_key(owner(1))) == session_store.Tally(1, 0, 5)


async def test_names_are_found_by_their_beginning_in_order_and_up_to_a_limit(open_store: OpenStore) -> None:
    store = open_store()
    names = [b"aa1", b"aa2", b"ab", b"b", b"a", b"\xff\xff", b"\xff"]
    for name in names:
        await store.transact([], writing((Key(TALLY, name), Tally(1))))
        await store.transact([], writing((Key(QUEUED, name), Ticket("new", 5))))
    assert store.names(TALLY, b"a", 9) == [b"a", b"aa1", b"aa2", b"ab"]
    assert store.names(TALLY, b"a", 3) == [b"a", b"aa1", b"aa2"]
    assert store.names(TALLY, b"aa2", 9) == [b"aa2"]
    assert store.names(TALLY, b"\xff", 9) == [b"\xff", b"\xff\xff"]
    assert store.names(TALLY, b"c", 9) == []
    assert len(store.names(QUEUED, b"", 99)) == len(names)
