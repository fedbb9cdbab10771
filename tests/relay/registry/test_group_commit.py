"""Calls that come while one is under way share the next one."""

from __future__ import annotations

import asyncio

import pytest

from relay.registry.group_commit import GroupCommit
from relay.registry.model import RegistryBusy


class Slow:
    """Takes what it is given when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[str]) -> None:
        self.batches.append(items)
        await self.open.wait()
        if self.error is not None:
            raise self.error


async def begun(together: GroupCommit[str], *calls: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(together(call)) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_calls_during_a_run_go_together_in_the_next() -> None:
    slow = Slow()
    together = GroupCommit(slow)
    tasks = await begun(together, "a") + await begun(together, "bc", "d", "e")
    assert slow.batches == [["a"]]
    slow.open.set()
    await asyncio.gather(*tasks)
    assert slow.batches == [["a"], ["b", "c", "d", "e"]]
    await together("f")
    assert slow.batches[2:] == [["f"]]


async def test_a_run_takes_no_more_of_several_calls_than_allowed_and_one_call_is_never_parted() -> None:
    slow = Slow()
    together = GroupCommit(slow, at_once=3)
    tasks = await begun(together, "a") + await begun(together, "bc", "de", "fghij", "k")
    slow.open.set()
    await asyncio.gather(*tasks)
    assert slow.batches == [["a"], ["b", "c"], ["d", "e"], ["f", "g", "h", "i", "j"], ["k"]]


async def test_an_error_is_raised_to_those_of_its_run_only() -> None:
    slow = Slow()
    together = GroupCommit(slow)
    first = await begun(together, "a", "b")
    slow.error = RegistryBusy("away")
    slow.open.set()
    assert [type(one) for one in await asyncio.gather(*first, return_exceptions=True)] == [RegistryBusy] * 2
    slow.error = None
    await together("c")


async def test_who_is_cancelled_does_not_stop_the_others() -> None:
    slow = Slow()
    together = GroupCommit(slow)
    cancelled, *others = await begun(together, "a", "b")
    cancelled.cancel()
    slow.open.set()
    await asyncio.gather(*others)
    assert cancelled.cancelled()
    await together("c")
    assert [item for batch in slow.batches for item in batch] == ["a", "b", "c"]


async def test_no_more_wait_than_allowed() -> None:
    slow = Slow()
    together = GroupCommit(slow, max_waiting=3)
    tasks = await begun(together, "a") + await begun(together, "bc")
    with pytest.raises(RegistryBusy, match="too many"):
        await together("de")
    tasks += await begun(together, "f")
    slow.open.set()
    await asyncio.gather(*tasks)
    assert [item for batch in slow.batches for item in batch] == ["a", "b", "c", "f"]
