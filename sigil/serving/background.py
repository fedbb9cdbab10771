"""Background loops of a worker: each job runs again and again, also after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from sigil.serving import logs

Job = Callable[[], Awaitable[None]]


class BackgroundLoops:
    """Awaits each of `jobs` (by name) in an endless loop; after a failure its loop pauses for `rest` seconds.

    A failure is logged, except one of `expected`, which is logged elsewhere, once.
    """

    def __init__(
        self, jobs: Mapping[str, Job], *, rest: float = 1.0, expected: tuple[type[Exception], ...] = ()
    ) -> None:
        self._jobs = dict(jobs)
        self._rest = rest
        self._expected = expected
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run_forever(name, job), name=name) for name, job in self._jobs.items()]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run_forever(self, name: str, job: Job) -> None:
        while True:
            try:
                await job()
            except self._expected:
                await asyncio.sleep(self._rest)
            except Exception as error:
                logs.error("background_loop_failed", exc=error, loop=name)
                await asyncio.sleep(self._rest)
