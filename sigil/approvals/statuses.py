"""The encoded status of approval requests, cached: with a thousand members it has 450 KB, and takes 4 ms to make.

A backend may poll as often as it likes, and each vote makes a new version. So the parts that never change are cached,
which are the members and each vote, and the whole of the last version.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigil.approvals.messages import ApprovalMessages
from sigil.core.approvals.approval import Approval, Vote, vote_key
from sigil.core.session_store import SessionStore
from sigil.protocol.errors import MpaNotFound

MAX_BYTES = 16 << 20
"""Of a worker; the status that was read least recently is dropped first."""
# Votes read before other requests get the event loop: a quarter of a millisecond.
_VOTES_AT_ONCE = 50
# Of the objects that hold a status and each of its votes.
_OVERHEAD = 512


@dataclass
class _Status:
    """`votes`: by member, the time and the JSON of the vote. `version`: what `body` was made of. `size`: as counted."""

    members: msgspec.Raw
    votes: dict[int, tuple[int, msgspec.Raw]] = field(default_factory=dict)
    version: Any = None
    body: bytes = b""
    size: int = 0


class Statuses:
    def __init__(self, store: SessionStore, messages: ApprovalMessages, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._messages = messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cache: OrderedDict[bytes, _Status] = OrderedDict()

    async def encoded(self, mpa_id: bytes, approval: Approval) -> msgspec.Raw:
        """The JSON of a request's status. MpaNotFound when the request is gone meanwhile."""
        # The ballots decide which votes there are, and a vote never changes.
        version = (approval.ballots, approval.end)
        status = self._cache.get(mpa_id) or _Status(self._messages.groups(approval))
        # Kept before the votes are read: concurrent requests share the work.
        self._keep(mpa_id, status)
        if status.version == version:
            return msgspec.Raw(status.body)
        await self._read_votes(mpa_id, approval, status)
        votes = sorted((status.votes[member] for member in approval.voted_members()), key=lambda vote: vote[0])
        body = self._messages.status(mpa_id, approval, status.members, [vote for _, vote in votes])
        status.version, status.body = version, body
        self._keep(mpa_id, status)
        return msgspec.Raw(body)

    async def _read_votes(self, mpa_id: bytes, approval: Approval, status: _Status) -> None:
        missing = [member for member in approval.voted_members() if member not in status.votes]
        for number, member in enumerate(missing, 1):
            vote: Vote | None = await self._store.get(vote_key(mpa_id, member))
            if vote is None:
                # A vote is kept at least as long as its request: a missing vote means that the request is gone.
                raise MpaNotFound
            status.votes[member] = vote.at, self._messages.vote(approval, member, vote)
            if number % _VOTES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _keep(self, mpa_id: bytes, status: _Status) -> None:
        """As the last one that is dropped; drops others when there are too many bytes."""
        known = self._cache.pop(mpa_id, None)
        self._bytes -= known.size if known else 0
        # The parts together are about as long as the body.
        status.size = len(status.members) + 2 * len(status.body) + _OVERHEAD * (1 + len(status.votes))
        self._cache[mpa_id] = status
        self._bytes += status.size
        while self._bytes > self._max_bytes:
            self._bytes -= self._cache.popitem(last=False)[1].size
