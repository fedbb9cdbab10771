"""The size of a pending challenge in the store, with its ledger and its indices."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sigil.app.state import KINDS
from sigil.core import challenge as rules
from sigil.core.challenge import Challenge
from sigil.core.device_ledger import Limits
from sigil.core.pushes.delivery import complete, rows_of
from sigil.core.pushes.outbox import OUTBOX, Claim, Push, claim, outbox_key
from sigil.protocol.encoding.ids import uuid4_bytes
from sigil.store.lmdb import LmdbStore
from tests.support.services import START, Clock

MOST_BYTES = 450
# Per second. Ids that are due in the same second are adjacent in an index, so the cost depends on the rate by some
# bytes: it must not be the speed of the machine.
_CREATED = 1_000
# The action adds its own size: this is the one of the README.
_ACTION = b'{"description":"Sign in to Example","type":"login"}'


async def deliver(store: LmdbStore, name: bytes) -> None:
    """What a worker does with the outbox entry."""
    keys = [outbox_key(name)]
    claims: list[Claim] = await store.transact(keys, lambda now, rows: claim(now, keys, rows, b"token"))
    await store.transact(rows_of(claims), lambda now, rows: complete(now, claims, ["delivered"], rows, 0.5))


@pytest.mark.parametrize(
    ("creation", "most"),
    [
        pytest.param(None, MOST_BYTES, id="not traced"),
        pytest.param(b"t" * 25, MOST_BYTES + 40, id="in a sampled trace"),
    ],
)
async def test_a_pending_challenge_costs_at_most_450_bytes_with_its_indices(
    memory_directory: Path, creation: bytes | None, most: int
) -> None:
    """Each challenge has its own device and a delivered push: the largest case, with a ledger each."""
    clock, drawn = Clock(), Random(450).randbytes  # noqa: S311 - not secret, but the same in every run
    store = LmdbStore(memory_directory, size=64 << 20, kinds=KINDS, clock=clock)
    empty = store.usage().used
    owner, costs = drawn(16), []
    for n in range(1, 20_001):
        clock.now = START + n / _CREATED
        key, created_ms = uuid4_bytes(drawn(16)), int(clock.now * 1000)
        draft = Challenge(drawn(33), owner, drawn(32), _ACTION, created_ms, 300, push=Push.QUEUED, creation=creation)
        keys = [rules.challenge_key(key), rules.ledger_key(draft.public_key)]

        def rule(now: float, rows: tuple[object, ...], key: bytes = key, draft: Challenge = draft) -> object:
            return rules.issue(now, key, draft, None, limits=Limits(), body_sha256=b"")

        await store.transact(keys, rule, creates=True)
        await deliver(store, key)
        # Pages that fill at the same rate split at the same time: the cost varies by some bytes around its mean.
        if n >= 8_000 and n % 1_000 == 0:
            costs.append((store.usage().used - empty) / n)
    assert store.count(OUTBOX) == 0
    store.close()
    assert sum(costs) / len(costs) <= most
