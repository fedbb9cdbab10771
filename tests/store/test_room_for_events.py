"""Whatever pends can end: its event finds room in a store that is full for creations, though nobody takes one."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sigil.core import challenge as rules
from sigil.core.challenge import Challenge
from sigil.core.decision import StoreFull
from sigil.core.ledger import Limits
from sigil.core.outbox import Push
from sigil.core.sweep import sweep
from sigil.core.webhook_event import EVENT
from sigil.outgoing import Outgoing
from sigil.protocol.errors import Overloaded
from sigil.protocol.ids import uuid4_bytes
from sigil.state import KINDS
from sigil.store.lmdb import LmdbStore
from sigil.undelivered import Undelivered

SIZE = 16 << 20
# The longest type, in the smallest description: rows are cheap and events dear.
ACTION = b'{"description":"d","type":"' + b"t" * 64 + b'"}'


class Host:
    def __init__(self, directory: Path) -> None:
        self.now = 1_777_026_735.0
        self.store = LmdbStore(directory, size=SIZE, kinds=KINDS, clock=lambda: self.now)
        # A clock of its own, so that it looks once in 50 creations.
        self.undelivered = Undelivered(
            store=self.store, pending=(rules.CHALLENGE,), outgoing=Outgoing(), clock=count(1, 0.005).__next__
        )
        self.owner = os.urandom(16)

    async def create(self, push: Push = Push.QUEUED) -> tuple[bytes, Challenge]:
        name = uuid4_bytes(os.urandom(16))
        draft = Challenge(os.urandom(33), self.owner, os.urandom(32), ACTION, int(self.now * 1000), 300, push=push)

        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return rules.issue(now, name, draft, None, limits=Limits(), body_sha256=b"")

        await self.store.decide(self.rows(name, draft)[:2], rule, creates=True)
        return name, draft

    async def answer(self, name: bytes, challenge: Challenge, *, webhook: bool) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return rules.answer(now, name, *rows, approved=False, reason="unknown_trigger", webhook=webhook)

        await self.store.decide(self.rows(name, challenge), rule)

    async def fill(self) -> None:
        """With what has ended and was told, until nothing more can be created."""
        while True:
            try:
                self.undelivered.refuse_when_full()
                one = await self.create()
            except (Overloaded, StoreFull):
                return
            await self.answer(*one, webhook=False)

    async def expire(self) -> None:
        while due := await self.store.due(self.now, 40):
            names = [(key.name, await self.store.get(key)) for key in due if key.kind is rules.CHALLENGE]
            others = [other for name, row in names for other in self.rows(name, row)[1:]]
            keys = list(dict.fromkeys([*due, *others]))

            def rule(now: float, found: tuple[Any, ...], keys: Any = keys) -> Any:
                return sweep(now, dict(zip(keys, found, strict=True)), webhook=True)

            await self.store.decide(keys, rule)

    def rows(self, name: bytes, challenge: Challenge) -> list[Any]:
        return [rules.challenge_key(name), rules.ledger_key(challenge.public_key), rules.outbox_key(name)]


@pytest.mark.parametrize("end", ["answered", "expired"])
async def test_whatever_pends_can_end_in_a_full_store(memory_directory: Path, end: str) -> None:
    host = Host(memory_directory)
    pending = [await host.create() for _ in range(9000)]
    await host.fill()
    # It is full, and not merely half so.
    assert host.store.usage().used > 0.6 * SIZE
    if end == "expired":
        host.now += 301
        await host.expire()
    else:
        for name, challenge in pending:
            await host.answer(name, challenge, webhook=True)
    assert host.store.count(EVENT) == len(pending)
    assert host.store.usage().used < SIZE
    host.store.close()
