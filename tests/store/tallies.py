"""Services on the LMDB store, a recount of its tallies, and a process that works until it is killed.

As a script: `PATH` is the directory of the store; it prints a line when it has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigil.app.state import KINDS
from sigil.core.session_store import OWNER_BYTES, TALLY, Tally
from sigil.core.webhooks import delivery, event
from sigil.core.webhooks.delivery import AttemptResult
from sigil.core.webhooks.event import EVENT
from sigil.delivery.backlog import Backlog, EventBacklog, Events
from sigil.device import Device
from sigil.protocol.api_key import Caller
from sigil.protocol.errors import Problem, WrongCode
from sigil.protocol.messages.approvals import MpaCreated
from sigil.protocol.messages.challenges import ChallengeCreated
from sigil.protocol.messages.enrolment import BeginEnrolment
from sigil.store.codec import Codec
from sigil.store.lmdb import LmdbStore
from tests.support.enrolling import Phone
from tests.support.services import Services

DEVICES = [Device.from_secret("ES256", bytes([number]) * 32) for number in range(11, 17)]
CALLERS = [Caller(bytes([number]) * 16) for number in (1, 2, 3)]
SIZE = 64 << 20


@dataclass
class TalliedServices(Services):
    """With webhook events. `directory`: that of the store."""

    directory: Path = Path()

    def _make_store(self) -> Any:
        return LmdbStore(self.directory, size=SIZE, kinds=KINDS, clock=self.steady)

    def _make_event_backlog(self) -> Events:
        return EventBacklog(Backlog())

    async def deliver(self, outcome: AttemptResult, limit: int = 3) -> None:
        """Claim and complete due events."""
        keys = await self.store.due(self.clock(), limit, EVENT)
        claims = await self.store.transact(keys, lambda now, rows: event.claim(now, keys, rows, b"token"))

        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return delivery.complete(
                now, claims, [outcome] * len(claims), rows, schedule=[], jitters=[0.5] * len(claims)
            )

        await self.store.transact([event.event_key(name) for name, _ in claims], rule)


def stored(store: LmdbStore) -> tuple[dict[bytes, Tally], dict[bytes, Tally]]:
    """The tallies of a store by owner, and the same as a sum of all its rows."""
    codec = Codec(KINDS)
    sums: dict[bytes, Counter[str]] = {}
    tallies: dict[bytes, Tally] = {}
    with store._env.begin(store._rows) as txn:
        keys = [bytes(raw) for raw in txn.cursor().iternext(values=False)]
        rows = {raw: codec.row(raw, value) for raw in keys if (value := store._value(txn, raw)) is not None}
    for raw, row in rows.items():
        kind = codec.key(raw).kind
        if kind is TALLY:
            tallies[raw[1:]] = row
        elif kind.tallied:
            owner, pending, events, charged, enrolments = row.share
            assert len(owner) == OWNER_BYTES
            sums.setdefault(owner, Counter()).update(
                pending=pending, events=events, charged=charged, enrolments=enrolments
            )
    return tallies, {
        owner: Tally(one["pending"], one["events"], one["charged"], one["enrolments"]) for owner, one in sums.items()
    }


class Work:
    """One operation of each kind, on what was created before. A problem of the protocol changes nothing."""

    def __init__(self, services: TalliedServices) -> None:
        self.services = services
        self.challenges: list[tuple[Caller, Device, ChallengeCreated]] = []
        self.approvals: list[tuple[Caller, MpaCreated]] = []

    async def do(self, what: str, number: int) -> None:
        try:
            await getattr(self, what)(number)
        except Problem:
            return

    async def create(self, number: int) -> None:
        caller, device = CALLERS[number % 3], DEVICES[number % 6]
        key = f"key {number}" if number % 4 == 0 else ""
        created = await self.services.create_challenge(device, caller, seconds=30 + number, key=key)
        self.challenges.append((caller, device, created))

    async def request(self, number: int) -> None:
        caller, groups = CALLERS[number % 3], [DEVICES[: 1 + number % 3], DEVICES[3:]]
        created = await self.services.create_approval(
            groups, 1 + number % 2, caller, name=f"r{number}", seconds=60 + number
        )
        self.approvals.append((caller, created))

    async def answer(self, number: int) -> None:
        if self.challenges:
            _, device, created = self.challenges[number % len(self.challenges)]
            await (self.services.approve if number % 2 else self.services.reject)(device, created)

    async def vote(self, number: int) -> None:
        if self.approvals:
            caller, created = self.approvals[number % len(self.approvals)]
            context = (await self.services.approval_status(created, caller)).action_context
            await self.services.vote_on(DEVICES[number % 6], created, context, "approved" if number % 3 else "rejected")

    async def cancel(self, number: int) -> None:
        if self.challenges and number % 2:
            caller, _, challenge = self.challenges[number % len(self.challenges)]
            await self.services.challenges.cancel(caller, challenge.challenge_id)
        elif self.approvals:
            caller, request = self.approvals[number % len(self.approvals)]
            await self.services.approvals.cancel(caller, request.request_id)

    async def expire(self, number: int) -> None:
        self.services.clock.now += number
        await self.services.sweep()

    async def delete(self, number: int) -> None:
        """What has ended is deleted: challenges after 10 minutes, requests after a day."""
        self.services.clock.now += 700 if number % 2 else 87_500
        await self.services.sweep()

    async def enrol(self, number: int) -> None:
        """An enrolment that is left at one of its steps."""
        caller, enrolments = CALLERS[number % 3], self.services.enrolments
        begun, _ = await enrolments.begin(caller, BeginEnrolment(f"a{number}"))
        if number % 5:
            phone = Phone.of(begun)
            phone.accept(await enrolments.claim(phone.claim()))
            code = phone.session((await enrolments.complete(phone.completion())).sas_nonce).code
            for attempt in {2: [code], 3: ["x"] * 3}.get(number % 5, []):
                with contextlib.suppress(WrongCode):
                    await enrolments.confirm(caller, begun.enrolment_id, attempt)
        elif number % 2:
            await enrolments.cancel(caller, begun.enrolment_id)

    async def deliver(self, number: int) -> None:
        await self.services.deliver(AttemptResult(200 if number % 3 else 400))


OPERATIONS = ("create", "request", "answer", "vote", "cancel", "enrol", "expire", "delete", "deliver")


async def work_until_killed(path: Path) -> None:
    services = TalliedServices(directory=path)
    services.clock.now = time.time()
    work, choice = Work(services), random.Random(path.name)  # noqa: S311 - not secret
    print("begun", flush=True)  # noqa: T201
    while True:
        # More creations than deletions, so that there is something to count when the process is killed.
        what = choice.choice(("create", "create", "request", "answer", "vote", "cancel", "enrol", "deliver"))
        await work.do(what, choice.randrange(240))
        services.clock.now += 1


if __name__ == "__main__":
    asyncio.run(work_until_killed(Path(sys.argv[1])))
