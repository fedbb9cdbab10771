"""What a provider saw: the pushes that it accepted, for a test's devices, and what became of all requests."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

KEPT = 10_000


class Push(msgspec.Struct, frozen=True):
    """An accepted push. `sigil` is the text that the app reads; `headers` are without the authorization."""

    number: int
    provider: str
    token: str
    at: float
    headers: dict[str, str]
    body: msgspec.Raw
    sigil: str | None


class Record:
    """Numbers begin at 1 and go on over all providers; the last KEPT pushes are remembered."""

    def __init__(self) -> None:
        self._pushes: deque[Push] = deque(maxlen=KEPT)
        self.last = 0
        self.outcomes: dict[str, Counter[str]] = {}
        self._more = asyncio.Event()

    def reset(self) -> None:
        """Numbers go on: who waits for what comes after one is not told old pushes again."""
        self._pushes.clear()
        self.outcomes.clear()

    def count(self, provider: str, outcome: str) -> None:
        self.outcomes.setdefault(provider, Counter())[outcome] += 1

    def accept(self, provider: str, token: str, at: float, headers: dict[str, str], body: bytes, **told: Any) -> None:
        self.last += 1
        shown = {name: value for name, value in headers.items() if name != "authorization" and name[0] != ":"}
        self._pushes.append(Push(self.last, provider, token, at, shown, msgspec.Raw(body), **told))
        self._more.set()

    def seen(self, after: int, provider: str | None, token: str, limit: int) -> list[Push]:
        """At most `limit` pushes with numbers over `after`, in order; `token` is a prefix."""
        fitting = (
            push for push in self._after(after) if provider in {None, push.provider} and push.token.startswith(token)
        )
        return list(islice(fitting, limit))

    def _after(self, number: int) -> Iterator[Push]:
        first = self.last - len(self._pushes) + 1
        return islice(self._pushes, max(0, number + 1 - first), None)

    async def more(self) -> None:
        """Until another push is accepted."""
        self._more.clear()
        await self._more.wait()
