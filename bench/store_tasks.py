"""The work of the store: put, answer and expire challenges, so many in one run that the clock can measure it."""

from __future__ import annotations

import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bench.wire import ACTION_JCS
from sigil.app.state import KINDS
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.core import challenge as rules
from sigil.core.challenge import Challenge
from sigil.core.device_ledger import Limits
from sigil.core.owner_share import OwnerShare
from sigil.core.session_store import Decision, Key, SessionStore, tally_key
from sigil.delivery.backlog import EventsDisabled, PushDisabled
from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.notifier import SessionNotifier
from sigil.store.lmdb import LmdbStore

T = TypeVar("T")

_LIFETIME = 300


def open_store(path: Path) -> LmdbStore:
    return LmdbStore(path, size=256 << 20, kinds=KINDS, clock=time.time)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, such as those of the stores."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("the coroutine suspended")


class Task(Protocol):
    """`run` is measured; `prepare` runs before it."""

    def prepare(self) -> None: ...

    def run(self) -> None: ...


class Put:
    """Challenges for new devices: the most expensive case, with a ledger for each. `age` in seconds."""

    def __init__(self, store: SessionStore, count: int, age: int = 0, action: bytes = ACTION_JCS) -> None:
        self._store = store
        self._count = count
        self._age = age
        self._action = action
        # One API key: a server has few, and each has a tally.
        self._owner = os.urandom(16)
        self.drafts: list[tuple[bytes, Challenge]] = []

    def prepare(self) -> None:
        # Removes them, so that the store is as full in the last round as in the first.
        for name, draft in self.drafts:
            finish(self._forget(name, draft))
        self.drafts = [(uuid4_bytes(os.urandom(16)), self._draft()) for _ in range(self._count)]

    def _draft(self) -> Challenge:
        created_ms = int((time.time() - self._age) * 1000)
        return Challenge(os.urandom(33), self._owner, os.urandom(32), self._action, created_ms, _LIFETIME)

    def run(self) -> None:
        for name, draft in self.drafts:
            finish(self._put(name, draft))

    async def _put(self, name: bytes, draft: Challenge) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Any]:
            _, ledger, tally = rows
            return rules.issue(
                now, name, draft, ledger, limits=Limits(), body_sha256=b"", tally=tally, share=OwnerShare(1 << 20)
            )

        await self._store.transact([*_rows_of(name, draft), tally_key(draft.owner)], rule, creates=True)

    async def _forget(self, name: bytes, draft: Challenge) -> None:
        keys = _rows_of(name, draft)
        await self._store.transact(keys, lambda now, rows: Decision(None, tuple((key, None) for key in keys)))


class Answer:
    """Approvals of pending challenges, whose signatures were verified before."""

    def __init__(self, store: SessionStore, count: int) -> None:
        self._store = store
        self._put = Put(store, count)

    def prepare(self) -> None:
        self._put.prepare()
        self._put.run()

    def run(self) -> None:
        for name, draft in self._put.drafts:
            finish(self._answer(name, draft))

    async def _answer(self, name: bytes, draft: Challenge) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Any]:
            return rules.answer(now, name, *rows, approved=True)

        await self._store.transact(_rows_of(name, draft), rule)


class Expire:
    """The expiry sweep of a worker over unanswered challenges, until none is due."""

    def __init__(self, store: SessionStore, count: int) -> None:
        self._put = Put(store, count, age=_LIFETIME + 1)
        notifier = SessionNotifier(
            observer=_NoObserver(),
            push_backlog=PushDisabled(),
            event_backlog=EventsDisabled(),
            fan_outs=FanOutWorker(store=store, push_backlog=PushDisabled(), clock=time.time),
        )
        self._sweeper = ExpirySweeper(store, notifier)

    def prepare(self) -> None:
        self._put.prepare()
        self._put.run()

    def run(self) -> None:
        while finish(self._sweeper.sweep()):
            pass


class _NoObserver:
    def challenge(self, *_: object) -> None: ...

    def approval(self, *_: object) -> None: ...


TASKS = {"put": Put, "answer": Answer, "expire": Expire}


def _rows_of(name: bytes, draft: Challenge) -> list[Key]:
    return [rules.challenge_key(name), rules.ledger_key(draft.public_key)]
