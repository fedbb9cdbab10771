"""Background loops of a worker: each turn again and again, whatever becomes of one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from sigil.serving import logs

Turn = Callable[[], Awaitable[None]]


class BackgroundLoops:
    """`turns` by name, each awaited for ever; after one that failed its loop rests for `rest` seconds.

    A failure is logged, except one of `expected`, which is told elsewhere and once.
    """

    def __init__(
        self, turns: Mapping[str, Turn], *, rest: float = 1.0, expected: tuple[type[Exception], ...] = ()
    ) -> None:
        self._turns = dict(turns)
        self._rest = rest
        self._expected = expected
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._forever(name, turn), name=name) for name, turn in self._turns.items()]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forever(self, name: str, turn: Turn) -> None:
        while True:
            try:
                await turn()
            except self._expected:
                await asyncio.sleep(self._rest)
            except Exception as error:
                logs.error("background_loop_failed", exc=error, loop=name)
                await asyncio.sleep(self._rest)
