"""Group commit: calls that arrive during a run share the next one."""

from __future__ import annotations

import asyncio

import pytest

from relay.registry.group_commit import GroupCommit
from relay.registry.model import RegistryBusy


class SlowRun:
    """Records each batch, and ends when `open` is set."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[str]) -> None:
        self.batches.append(items)
        await self.open.wait()
        if self.error is not None:
            raise self.error


async def started(group_commit: GroupCommit[str], *calls: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(group_commit(call)) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_calls_during_a_run_share_the_next_run() -> None:
    run = SlowRun()
    group_commit = GroupCommit(run)
    tasks = await started(group_commit, "a") + await started(group_commit, "bc", "d", "e")
    assert run.batches == [["a"]]
    run.open.set()
    await asyncio.gather(*tasks)
    assert run.batches == [["a"], ["b", "c", "d", "e"]]
    await group_commit("f")
    assert run.batches[2:] == [["f"]]


async def test_a_run_takes_at_most_at_once_items_of_several_calls_and_one_call_is_never_split() -> None:
    run = SlowRun()
    group_commit = GroupCommit(run, at_once=3)
    tasks = await started(group_commit, "a") + await started(group_commit, "bc", "de", "fghij", "k")
    run.open.set()
    await asyncio.gather(*tasks)
    assert run.batches == [["a"], ["b", "c"], ["d", "e"], ["f", "g", "h", "i", "j"], ["k"]]


async def test_an_error_reaches_the_callers_of_its_run_only() -> None:
    run = SlowRun()
    group_commit = GroupCommit(run)
    first = await started(group_commit, "a", "b")
    run.error = RegistryBusy("unreachable")
    run.open.set()
    assert [type(one) for one in await asyncio.gather(*first, return_exceptions=True)] == [RegistryBusy] * 2
    run.error = None
    await group_commit("c")


async def test_a_cancelled_caller_does_not_stop_the_others() -> None:
    run = SlowRun()
    group_commit = GroupCommit(run)
    cancelled, *others = await started(group_commit, "a", "b")
    cancelled.cancel()
    run.open.set()
    await asyncio.gather(*others)
    assert cancelled.cancelled()
    await group_commit("c")
    assert [item for batch in run.batches for item in batch] == ["a", "b", "c"]


async def test_waiting_items_are_limited() -> None:
    run = SlowRun()
    group_commit = GroupCommit(run, max_waiting=3)
    tasks = await started(group_commit, "a") + await started(group_commit, "bc")
    with pytest.raises(RegistryBusy, match="too many"):
        await group_commit("de")
    tasks += await started(group_commit, "f")
    run.open.set()
    await asyncio.gather(*tasks)
    assert [item for batch in run.batches for item in batch] == ["a", "b", "c", "f"]
