"""In a store that is full for creations, every pending row can end, and every eligible member can vote."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from sigil.app.state import KINDS
from sigil.core import challenge as rules
from sigil.core.approvals import fan_out, voting
from sigil.core.approvals.approval import APPROVAL, Approval, approval_key, member_name
from sigil.core.approvals.fan_out import fan_out_key
from sigil.core.approvals.quorum import OPEN
from sigil.core.approvals.voting import Ballot
from sigil.core.challenge import CHALLENGE, Challenge, challenge_key, ledger_key
from sigil.core.device_ledger import Limits
from sigil.core.evidence import Evidence
from sigil.core.expiry import sweep
from sigil.core.pushes.outbox import Push, outbox_key
from sigil.core.session_store import Decision, Key, StoreFull
from sigil.core.webhooks.event import EVENT
from sigil.protocol import webauthn
from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.protocol.errors import Overloaded
from sigil.sessions.capacity import Capacity
from sigil.store.lmdb import LmdbStore

SIZE = 12 << 20
# Of a sampled trace: rows and events hold it.
CREATION = b"t" * 25
ATTESTED = Evidence("apple-appattest", "secure_element", "witness", 1_777_026_735)
# The longest type with the shortest description: small rows and large events.
ACTION = b'{"description":"d","type":"' + b"t" * 64 + b'"}'


class Host:
    """Rows as the services write them; `webhook`: whether ends write events. All pushes count as delivered."""

    def __init__(self, directory: Path, *, webhook: bool, size: int = SIZE, web: int = 0) -> None:
        self.web = web
        self.now = 1_777_026_735.0
        self.webhook = webhook
        self.store = LmdbStore(directory, size=size, kinds=KINDS, clock=lambda: self.now)
        # A separate clock, so that it measures once in 50 creations.
        self.capacity = Capacity(store=self.store, events_enabled=webhook, clock=count(1, 0.005).__next__)
        # Not secret, but the same in every run: names decide which pages split.
        self.drawn = Random(12).randbytes  # noqa: S311
        self.owner = self.drawn(16)

    async def create(self, push: Push = Push.DELIVERED) -> tuple[bytes, Challenge]:
        name = uuid4_bytes(self.drawn(16))
        draft = Challenge(
            self.drawn(33), self.owner, self.drawn(32), ACTION, int(self.now * 1000), 300, push=push, creation=CREATION
        )

        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return rules.issue(now, name, draft, None, limits=Limits(), body_sha256=b"")

        self.capacity.check_challenge()
        await self.store.transact(self.rows(name, draft)[:2], rule, creates=True)
        await self.delete([outbox_key(name)])
        return name, draft

    async def create_approval(self, members: int) -> tuple[bytes, Approval]:
        """A request that only the last rejection decides. `self.web` of ten members are web devices."""
        name = uuid4_bytes(self.drawn(16))
        groups = min(members, 20)
        draft = Approval(
            self.owner, name.hex(), self.drawn(32), ACTION, int(self.now * 1000), 900, 1, False,
            (members // groups,) * groups, tuple(map(self._member, range(members))), "0" * 64, OPEN * members,
            pushed=True,
        )  # fmt: skip
        batches = [fan_out.batch_after(draft, start) for start in range(0, members, fan_out.MEMBERS_AT_ONCE)]
        self.capacity.check_approval(draft)
        for batch in batches:
            keys = [ledger_key(draft.members[member]) for member in batch]

            def enter(now: float, found: tuple[Any, ...], keys: list[Key] = keys, batch: range = batch) -> Any:
                rows = dict(zip(keys, found, strict=True))
                return Decision(None, tuple(voting.enter(now, name, draft, batch, rows, limits=Limits())))

            await self.store.transact(keys, enter, creates=True)
        await self.store.transact(
            [], lambda now, _: voting.create(now, name, draft, b"h" * 32, entered=[]), creates=True
        )
        await self.delete([fan_out_key(name), *(outbox_key(member_name(name, member)) for member in batches[0])])
        return name, draft

    def _member(self, number: int) -> bytes:
        return self.drawn(webauthn.KEY_LENGTH if number % 10 < self.web else 33)

    async def create_approvals_until_full(self, members: int) -> list[tuple[bytes, Approval]]:
        created: list[tuple[bytes, Approval]] = []
        while True:
            try:
                created.append(await self.create_approval(members))
            except (Overloaded, StoreFull):
                return created

    async def delete(self, keys: list[Key]) -> None:
        await self.store.transact([], lambda _now, _rows: Decision(None, tuple((key, None) for key in keys)))

    async def vote(self, name: bytes, draft: Approval, member: int) -> None:
        seen = await self.store.get(approval_key(name))
        # The longest signature of a web device; its rejections are shorter.
        is_web = len(draft.members[member]) == webauthn.KEY_LENGTH
        signature = self.drawn(webauthn.MAX_SIGNATURE if is_web else 64)
        ballot = Ballot(member, False, signature, "unknown_trigger")
        keys = [approval_key(name), ledger_key(draft.members[member]), outbox_key(member_name(name, member))]
        if voting.may_end(seen, ballot):
            keys = list(dict.fromkeys([*keys, *fan_out.rows_at_end(name, draft)]))

        def rule(now: float, found: tuple[Any, ...]) -> Any:
            return voting.vote(now, name, ballot, dict(zip(keys, found, strict=True)), emit_event=self.webhook)

        await self.store.transact(keys, rule)

    async def answer(self, name: bytes, challenge: Challenge, *, webhook: bool, approved: bool = False) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return rules.answer(
                now, name, *rows,
                approved=approved,
                reason="" if approved else "unknown_trigger",
                evidence=ATTESTED if approved else None,
                emit_event=webhook,
                event_creation=CREATION,
            )  # fmt: skip

        await self.store.transact(self.rows(name, challenge), rule)

    async def mistake(self, name: bytes, challenge: Challenge) -> None:
        def rule(now: float, rows: tuple[Any, ...]) -> Any:
            return rules.wrong_code(now, name, *rows, emit_event=self.webhook, event_creation=CREATION)

        for _ in range(rules.MAX_WRONG_CODES):
            await self.store.transact(self.rows(name, challenge), rule)

    async def cancel(self, name: bytes, challenge: Challenge) -> None:
        await self.store.transact(self.rows(name, challenge), lambda now, rows: rules.cancel(now, name, *rows))

    async def create_until_full(self) -> list[tuple[bytes, Challenge]]:
        pending: list[tuple[bytes, Challenge]] = []
        while True:
            try:
                pending.append(await self.create())
            except (Overloaded, StoreFull):
                return pending

    async def fill(self) -> None:
        """With ended challenges whose events are delivered, until creation is rejected."""
        while True:
            try:
                one = await self.create()
            except (Overloaded, StoreFull):
                return
            await self.answer(*one, webhook=False)

    async def expire(self) -> None:
        while due := await self.store.due(self.now, 40):
            names = [(key.name, await self.store.get(key)) for key in due if key.kind is CHALLENGE]
            related = [key for name, row in names for key in self.rows(name, row)[1:]]
            related += [fan_out_key(key.name) for key in due if key.kind is APPROVAL]
            keys = list(dict.fromkeys([*due, *related]))

            def rule(now: float, found: tuple[Any, ...], keys: Any = keys) -> Any:
                return sweep(now, dict(zip(keys, found, strict=True)), emit_events=self.webhook)

            await self.store.transact(keys, rule)

    async def clear(self, name: bytes, draft: Approval) -> None:
        """The whole fan-out of a request that has ended."""
        more = True
        while more:
            seen = await self.store.get(fan_out_key(name))
            keys = [fan_out_key(name), approval_key(name)]
            if seen is not None:
                keys += fan_out.rows_of_batch(name, draft, fan_out.batch_after(draft, seen.next))

            def rule(now: float, found: tuple[Any, ...], keys: Any = keys, seen: Any = seen) -> Any:
                return fan_out.next_batch(now, name, seen, dict(zip(keys, found, strict=True)))

            more = await self.store.transact(keys, rule)

    async def scatter(self) -> None:
        """Fragment the store: it was full to its last pages, and the remaining rows are scattered."""
        old: list[bytes] = []
        while self.store.usage().used < 0.95 * self.store.usage().size:
            old.append(uuid4_bytes(self.drawn(16)))
            row = Challenge(self.drawn(33), self.owner, self.drawn(32), ACTION, int(self.now * 1000), 300)
            ended = msgspec.structs.replace(row, end=rules.End(rules.State.CANCELLED, int(self.now)))
            await self.store.transact(
                [], lambda _now, _rows, ended=ended: Decision(None, ((challenge_key(old[-1]), ended),))
            )
        for start in range(0, len(old), 5):
            await self.delete([challenge_key(name) for name in old[start : start + 5] if name[0] % 3])

    def rows(self, name: bytes, challenge: Challenge) -> list[Any]:
        return [challenge_key(name), ledger_key(challenge.public_key), outbox_key(name)]

    def check_full(self) -> None:
        """More than half of the store is in use."""
        assert self.store.usage().used > 0.5 * SIZE


@pytest.mark.parametrize("webhook", [True, False])
@pytest.mark.parametrize("end", ["approved", "rejected", "wrong codes", "cancelled", "expired"])
async def test_every_pending_challenge_can_end_in_a_full_store(memory_directory: Path, end: str, webhook: bool) -> None:
    host = Host(memory_directory, webhook=webhook)
    # An ended challenge takes the most space with its event, and the least without.
    pending = [await host.create() for _ in range(5300)] if webhook else await host.create_until_full()
    await host.fill()
    host.check_full()
    if end == "expired":
        host.now += 301
        await host.expire()
    for name, challenge in pending:
        if end in {"approved", "rejected"}:
            await host.answer(name, challenge, webhook=webhook, approved=end == "approved")
        elif end == "wrong codes":
            await host.mistake(name, challenge)
        elif end == "cancelled":
            await host.cancel(name, challenge)
    assert host.store.count(CHALLENGE) == 0
    assert host.store.count(EVENT) == len(pending) * (webhook and end != "cancelled")
    assert host.store.usage().used < SIZE
    host.store.close()


async def test_without_contiguous_free_pages_a_thousand_members_can_vote(memory_directory: Path) -> None:
    host = Host(memory_directory, webhook=True, size=6 << 20)
    await host.scatter()
    approvals = await host.create_approvals_until_full(1000)
    for name, draft in approvals:
        for member in range(1000):
            await host.vote(name, draft, member)
    assert approvals
    assert host.store.count(APPROVAL) == 0
    host.store.close()


@pytest.mark.parametrize(
    ("members", "webhook", "web"),
    [
        *[(1, True, 0), (3, True, 0), (3, False, 0), (20, False, 0), (1000, True, 0)],
        *[(1, True, 10), (3, False, 10), (20, True, 10), (20, False, 5), (1000, True, 10)],
    ],
)
@pytest.mark.parametrize("end", ["voted", "timed out"])
async def test_every_member_can_vote_in_a_store_that_is_full_of_requests(
    memory_directory: Path, end: str, members: int, webhook: bool, web: int
) -> None:
    host = Host(memory_directory, webhook=webhook, size=5 << 20, web=web)
    approvals = await host.create_approvals_until_full(members)
    if end == "voted":
        # One member after the other in all requests: the rows of their votes interleave.
        for member in range(members):
            for name, draft in approvals:
                await host.vote(name, draft, member)
    else:
        host.now += 901
        await host.expire()
    for name, draft in approvals:
        await host.clear(name, draft)
    assert approvals
    usage = host.store.usage()
    assert host.store.count(APPROVAL) == usage.reserved == 0
    assert host.store.count(EVENT) == len(approvals) * webhook
    assert usage.used < usage.size
    host.store.close()
