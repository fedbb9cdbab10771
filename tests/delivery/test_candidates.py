"""Candidates: the names of the backlog and of due rows, and the time of the next query."""

from __future__ import annotations

import pytest

from sigil.delivery.backlog import Backlog
from sigil.delivery.candidates import QUERY_SECONDS, Candidates


class Setup:
    """Candidates over a list of due names, with a clock that a test moves. `queries` are the limits of all queries."""

    def __init__(self, due: list[bytes] | None = None, jitter: float = 0.5) -> None:
        self.due_names = due or []
        self.now = 100.0
        self.queries: list[int] = []
        self.backlog = Backlog()
        self.candidates = Candidates(backlog=self.backlog, due=self.due, jitter=lambda: jitter, now=lambda: self.now)

    async def due(self, limit: int) -> list[bytes]:
        self.queries.append(limit)
        return self.due_names[:limit]


def names(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(count)]


async def test_the_first_call_queries_the_store() -> None:
    setup = Setup(due=names("due", 3))
    assert await setup.candidates.next(10) == names("due", 3)
    assert setup.queries == [10]


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
async def test_the_next_query_follows_after_about_a_second(jitter: float, seconds: float) -> None:
    setup = Setup(jitter=jitter)
    await setup.candidates.next(10)
    setup.now += seconds * QUERY_SECONDS - 0.01
    await setup.candidates.next(10)
    assert setup.queries == [10]
    setup.now += 0.02
    await setup.candidates.next(10)
    assert setup.queries == [10, 10]


async def test_between_queries_only_the_backlog_gives_names() -> None:
    setup = Setup(due=names("due", 1))
    await setup.candidates.next(10)
    setup.backlog.add(b"own")
    assert await setup.candidates.next(10) == [b"own"]
    assert len(setup.backlog) == 0


async def test_a_full_result_is_followed_by_another_query_at_once() -> None:
    setup = Setup(due=names("due", 30))
    await setup.candidates.next(10)
    await setup.candidates.next(10)
    assert setup.queries == [10, 10]


async def test_neither_due_rows_nor_the_backlog_wait_behind_the_other() -> None:
    setup = Setup(due=names("due", 30))
    for name in names("own", 30):
        setup.backlog.add(name)
    assert await setup.candidates.next(10) == names("due", 5) + names("own", 5)
    assert setup.queries == [5]


async def test_the_backlog_gets_what_the_due_rows_leave_of_the_limit() -> None:
    setup = Setup(due=names("due", 2))
    for name in names("own", 30):
        setup.backlog.add(name)
    assert await setup.candidates.next(10) == names("due", 2) + names("own", 8)


async def test_a_limit_of_one_still_queries_for_one() -> None:
    setup = Setup(due=names("due", 2))
    setup.backlog.add(b"own")
    assert await setup.candidates.next(1) == [b"due0"]
    assert setup.queries == [1]
    assert len(setup.backlog) == 1


async def test_a_name_that_is_due_and_in_the_backlog_is_given_once() -> None:
    setup = Setup(due=[b"same"])
    setup.backlog.add(b"same")
    assert await setup.candidates.next(10) == [b"same"]


async def test_postpone_puts_off_the_query() -> None:
    setup = Setup(due=names("due", 1))
    setup.candidates.postpone()
    assert await setup.candidates.next(10) == []
    setup.now += QUERY_SECONDS
    assert await setup.candidates.next(10) == names("due", 1)


async def test_wait_returns_when_a_query_is_due_or_the_backlog_has_a_name() -> None:
    setup = Setup()
    assert await setup.candidates.wait() is False
    setup.candidates.postpone()
    setup.backlog.add(b"own")
    assert await setup.candidates.wait() is True


async def test_a_flood_of_one_owner_delays_no_name_of_another() -> None:
    setup = Setup()
    await setup.candidates.next(10)
    for name in names("flood", 5000):
        setup.backlog.add(name, b"A")
    for name in names("other", 3):
        setup.backlog.add(name, b"B")
    assert await setup.candidates.next(6) == [b"flood0", b"other0", b"flood1", b"other1", b"flood2", b"other2"]


async def test_a_full_backlog_of_one_owner_still_takes_the_names_of_others() -> None:
    backlog = Backlog(cap=100)
    for name in names("flood", 200):
        backlog.add(name, b"A")
    assert len(backlog) == 75
    backlog.add(b"other", b"B")
    assert backlog.take(2) == [b"flood0", b"other"]
