"""The accepted pushes, which the devices of a test read, and the outcomes of all requests."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

KEPT = 10_000


class Push(msgspec.Struct, frozen=True):
    """An accepted push. `sigil` is the text that the app reads; `headers` leave out the authorization."""

    number: int
    provider: str
    token: str
    at: float
    headers: dict[str, str]
    body: msgspec.Raw
    sigil: str | None


class Record:
    """Pushes of all providers are numbered together, from 1. The last KEPT pushes are kept."""

    def __init__(self) -> None:
        self._pushes: deque[Push] = deque(maxlen=KEPT)
        self.last = 0
        self.outcomes: dict[str, Counter[str]] = {}
        self._new_push = asyncio.Event()

    def reset(self) -> None:
        """Numbers continue: a client that waits for pushes after a number does not get old ones again."""
        self._pushes.clear()
        self.outcomes.clear()

    def count(self, provider: str, outcome: str) -> None:
        self.outcomes.setdefault(provider, Counter())[outcome] += 1

    def accept(self, provider: str, token: str, at: float, headers: dict[str, str], body: bytes, **fields: Any) -> None:
        self.last += 1
        visible = {name: value for name, value in headers.items() if name != "authorization" and name[0] != ":"}
        self._pushes.append(Push(self.last, provider, token, at, visible, msgspec.Raw(body), **fields))
        self._new_push.set()

    def seen(self, after: int, provider: str | None, token: str, limit: int) -> list[Push]:
        """At most `limit` pushes with numbers over `after`, in order; `token` is a prefix."""
        matching = (
            push for push in self._after(after) if provider in {None, push.provider} and push.token.startswith(token)
        )
        return list(islice(matching, limit))

    def _after(self, number: int) -> Iterator[Push]:
        first = self.last - len(self._pushes) + 1
        return islice(self._pushes, max(0, number + 1 - first), None)

    async def next_push(self) -> None:
        """Wait until another push is accepted."""
        self._new_push.clear()
        await self._new_push.wait()
