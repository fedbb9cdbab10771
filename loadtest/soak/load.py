"""Backends: they create challenges and approval requests at a moderate rate, and follow each to its final state."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadtest.soak.api import PATIENCE_SECONDS, Api, Record, Response
from loadtest.soak.devices import SoakDevice, error_state
from loadtest.soak.ledger import Ledger, Quorum, Violation
from sigil.protocol.encoding.text import parse_time
from sigil.sdk import VotesRefused, verify_votes

WISHES = ["approve"] * 12 + ["reject"] * 3 + ["race"] * 2 + ["ignore"] * 2 + ["cancel"]
"""What the devices do, in its share. `cancel`: the backend cancels at once, and the device may be faster."""
_APPROVALS_SHARE = 0.12
_REPLAYS_SHARE = 0.15
_HIGHEST_LIFE = 90
_DRAIN_LIFE = 20.0
"""At the end of a run, backends cancel what would live longer than this."""
_MAX_FOLLOWED = 400
# Long polls of the load: some backends poll, some wait.
_WAITS = (0, 0, 5, 15)


@dataclass
class Following:
    """A challenge or request on its way to a final state. `path` reads it, `cancel_path` cancels it."""

    what: str
    subject: str
    expires_at: float
    path: str
    cancel_path: str
    cancelling: bool = False
    cancelled: bool = field(default=False)


class Load:
    def __init__(self, apis: list[Api], devices: list[SoakDevice], ledger: Ledger, record: Record, server_id: str):
        self._apis, self._devices, self._ledger, self._record = apis, devices, ledger, record
        self._server_id = server_id
        self._draining = False
        self._numbers = 0
        self._run = f"soak-{int(time.time())}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._dice = random.Random()  # noqa: S311

    async def run(self, rate: float, stopped: asyncio.Event) -> None:
        """`rate` new subjects a second, until `stopped`. Fewer while many are open: the server may be down."""
        while not stopped.is_set():
            if len(self._tasks) < _MAX_FOLLOWED:
                is_approval = self._dice.random() < _APPROVALS_SHARE
                self._start(self._approval() if is_approval else self._challenge())
            await asyncio.sleep(self._dice.expovariate(rate))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Until every subject has a final state, or has failed."""
        self._draining = True
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def unanswered(self, api: Api) -> str:
        """The path of the status of a new challenge that no device answers; it is followed like the others."""
        created = await self._new_challenge(api, "ignore", 30)
        if created is None:
            return "/v1/auth/challenge/none/status"
        self._start(self._follow(api, created))
        return created.path

    async def _challenge(self) -> None:
        api, wish = self._dice.choice(self._apis), self._dice.choice(WISHES)
        if (created := await self._new_challenge(api, wish, self._life(30))) is not None:
            await self._follow(api, created)

    async def _new_challenge(self, api: Api, wish: str, life: int) -> Following | None:
        device, name = self._dice.choice(self._devices).device, self._name()
        action = {"type": "login", "description": f"Sign in: {name}", "params": {"wish": wish}}
        message = {"device_public_key": device.wire_key, "action": action, "expires_in_seconds": life}
        body, headers = msgspec.json.encode(message), {"Idempotency-Key": name}
        created = await self._create(api, "/challenge", body, headers, "challenge_id")
        if created is None:
            return None
        subject, expires_at = created.json["challenge_id"], float(parse_time(created.json["expires_at"], ""))
        self._ledger.created("challenge", subject, name, expires_at)
        path = f"/v1/auth/challenge/{subject}"
        return Following("challenge", subject, expires_at, f"{path}/status", path, cancelling=wish == "cancel")

    async def _approval(self) -> None:
        api, life, name = self._dice.choice(self._apis), self._life(60), self._name()
        members = self._dice.sample(self._devices, min(5, len(self._devices)))
        groups = [members[:2], members[2:4], members[4:]]
        groups = [group for group in groups if group]
        policy = self._dice.choice(["continue", "reject_on_first"])
        wishes = {one.device.fingerprint[:8]: self._dice.choice(WISHES[:17]) for one in members}
        wishes |= {name: "ignore" for name in wishes if self._dice.random() < 0.1}
        message = {
            "request_id": name,
            "action": {"type": "payment", "description": f"Pay: {name}", "params": {"wish": wishes}},
            "required": min(2, len(groups)),
            "groups": [{"members": [{"device_public_key": one.device.wire_key} for one in group]} for group in groups],
            "reject_policy": policy,
            "expires_in_seconds": life,
        }
        created = await self._create(api, "/mpa/request", msgspec.json.encode(message), {}, "mpa_id")
        if created is None:
            return
        subject, expires_at = created.json["mpa_id"], float(parse_time(created.json["expires_at"], ""))
        quorum = Quorum([[one.device.fingerprint for one in group] for group in groups], min(2, len(groups)), policy)
        self._ledger.created("approval", subject, name, expires_at, quorum)
        following = Following(
            "approval", subject, expires_at, f"/mpa/status/{name}", f"/mpa/request/{name}",
            cancelling=self._dice.random() < 0.05,
        )  # fmt: skip
        await self._follow(api, following)

    async def _create(self, api: Api, path: str, body: bytes, headers: dict[str, str], member: str) -> Response | None:
        """The first response; some creations are repeated, as by a backend that lost it."""
        what, expect = f"create {path}", frozenset({200, 201})
        created = await api.call(what, "POST", path, body=body, headers=headers, expect=expect)
        if created is not None and self._dice.random() < _REPLAYS_SHARE:
            again = await api.call(what, "POST", path, body=body, headers=headers, expect=expect)
            if again is not None and again.json[member] != created.json[member]:
                text = f"the same request gave {created.json[member]} and {again.json[member]}"
                self._record.violations.append(Violation("doubled", what, text))
        return created

    async def _follow(self, api: Api, following: Following) -> None:
        give_up = following.expires_at + PATIENCE_SECONDS
        wait = self._dice.choice(_WAITS)
        if following.cancelling:
            await asyncio.sleep(self._dice.uniform(0, 2))
            await self._cancel(api, following)
        while not await self._read(api, following, f"?wait={wait}"):
            if time.time() > give_up:
                self._ledger.lost(following.subject, f"still pending {PATIENCE_SECONDS:.0f} s after expires_at")
                return
            if self._draining and not following.cancelled and following.expires_at - time.time() > _DRAIN_LIFE:
                await self._cancel(api, following)
            await asyncio.sleep(self._dice.uniform(0.5, 1.5))
        # A second read, after a pause in which a late answer may arrive: the state is the same.
        await asyncio.sleep(self._dice.uniform(0, 5))
        await self._read(api, following, "")

    async def _read(self, api: Api, following: Following, query: str) -> bool:
        """Whether the state is final. A 404 ends it too: the server must know it for ten minutes after the end."""
        read = await api.call(f"read {following.what}", "GET", following.path + query, expect=frozenset({200, 404}))
        if read is None or read.status == 404:
            self._ledger.lost(following.subject, "the status is 404" if read else "the status cannot be read")
            return True
        state = read.json["status"]
        self._ledger.observed(following.subject, "backend", state, read.began, read.at)
        if state != "pending" and following.what == "approval":
            self._votes(following.subject, read)
        return bool(state != "pending")

    def _votes(self, subject: str, read: Response) -> None:
        votes: list[Any] = read.json["votes"]
        self._ledger.final_votes(subject, [(vote["fingerprint"], vote["decision"]) for vote in votes])
        try:
            verified = verify_votes(read.raw, server_id=self._server_id, required=read.json["groups_required"])
        except VotesRefused as error:
            self._record.violations.append(Violation("votes refused", subject, str(error)))
            return
        if verified.approved != (read.json["status"] == "approved"):
            self._record.violations.append(Violation("contradicting", subject, "the offline count of votes differs"))

    async def _cancel(self, api: Api, following: Following) -> None:
        following.cancelled = True
        answer = await api.call("cancel", "DELETE", following.cancel_path, expect=frozenset({200, 409, 410}))
        if answer is not None:
            state = answer.json["status"] if answer.status == 200 else error_state(answer.json)
            if state:
                self._ledger.observed(following.subject, "cancel", state, answer.began, answer.at)

    def _life(self, shortest: int) -> int:
        return self._dice.randint(shortest, max(shortest, _HIGHEST_LIFE))

    def _name(self) -> str:
        self._numbers += 1
        return f"{self._run}-{self._numbers}"
