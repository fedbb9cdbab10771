"""The faults: how each is made, how long it lasts, and when the installation has recovered from it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from loadtest.soak.floods import Floods
from loadtest.soak.ledger import Violation
from loadtest.soak.schedule import Planned
from loadtest.soak.stack import WORKERS, Stack, parent, relay_workers
from loadtest.usage import children
from tests.support.live import wait_until

RECOVERY_SECONDS = 120.0
"""Far longer than any recovery takes, on any machine: a service that is not back by then does not come back."""
GRACE_SECONDS = 20.0
"""After a recovery: clients may still meet connections and requests from before it."""
_RELOAD_SECONDS, _HEALTH_SECONDS = 20.0, 5.0
_PROVIDERS = ("apns", "fcm")


@dataclass
class Happened:
    """A fault with its Unix times; `recovered` is None while it lasts."""

    kind: str
    target: str
    began: float
    seconds: float
    recovered: float | None = None


@dataclass
class FaultLog:
    """Which faults happened when. `say` prints a line for each."""

    say: Callable[[str], None]
    happened: list[Happened] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(fault.kind for fault in self.happened).items()))

    def explains(self, began: float, at: float) -> bool:
        """Whether a fault, with its grace, overlaps with the time of a request."""
        return any(
            fault.began <= at and began <= (fault.recovered or float("inf")) + GRACE_SECONDS for fault in self.happened
        )


class Faults:
    def __init__(self, stack: Stack, floods: Floods, log: FaultLog, seed: int) -> None:
        self._stack, self._floods, self.log = stack, floods, log
        self._dice = random.Random(f"{seed} victims")  # noqa: S311
        self._makers: dict[str, Callable[[str, float], Awaitable[None]]] = {
            "server": self._server,
            "relay": self._relay,
            "database": self._database,
            "receiver": self._receiver,
            "providers": self._providers,
            "log": self._log_stall,
            "flood": self._floods.run,
        }
        self._cleared = asyncio.Event()

    async def run(self, target: str, planned: list[Planned], at_least: int, until: float) -> None:
        """The faults of one target, one after the other: `at_least` so many, and more until the Unix time `until`."""
        for number, fault in enumerate(planned):
            if number >= at_least and time.time() >= until:
                return
            await asyncio.sleep(fault.pause)
            happened = Happened(fault.kind, target, time.time(), fault.seconds)
            self.log.happened.append(happened)
            self.log.say(f"{fault.kind} for {fault.seconds:.1f} s")
            try:
                await self._makers[target](fault.kind, fault.seconds)
            except Exception as error:
                self.log.violations.append(Violation("no recovery", fault.kind, repr(error)[:1000]))
                self.log.say(f"{fault.kind}: NO RECOVERY: {error}")
            happened.recovered = time.time()
            if (took := happened.recovered - happened.began - fault.seconds) > 1:
                self.log.say(f"{fault.kind} over; recovery took {took:.1f} s")

    # Server

    async def _server(self, kind: str, seconds: float) -> None:
        server = self._stack.server
        await self._until(self._own_workers, "a worker of the server")
        workers = self._own_workers()
        if kind == "worker_kill":
            self._signal(self._dice.choice(workers), signal.SIGKILL)
        elif kind == "all_workers_kill":
            for worker in workers:
                self._signal(worker, signal.SIGKILL)
        elif kind.startswith("worker_stop"):
            await self._stop_process(self._dice.choice(workers), server.pid, seconds)
        elif kind == "reload":
            await self._reload(server.pid, self._own_workers)
        elif kind == "server_restart":
            self._check_exit(kind, await asyncio.to_thread(server.stop))
            await asyncio.to_thread(server.start)
        elif kind == "server_kill":
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(server.start)
        await self._until(server.all_ready, f"{WORKERS} ready workers of the server after {kind}")

    def _own_workers(self) -> list[int]:
        return self._stack.processes()["sigil worker"]

    # Relay and database

    async def _relay(self, kind: str, seconds: float) -> None:
        relay = self._stack.relay
        await self._until(self._relay_answers, "the relay")
        workers = relay_workers(relay)
        if kind == "relay_worker_kill":
            self._signal(self._dice.choice(workers), signal.SIGKILL)
        elif kind == "relay_worker_stop":
            await self._stop_process(self._dice.choice(workers), relay.pid, seconds)
        elif kind == "relay_reload":
            await self._reload(relay.pid, lambda: relay_workers(relay))
        else:
            if kind == "relay_kill":
                await asyncio.to_thread(relay.kill)
            else:
                self._check_exit(kind, await asyncio.to_thread(relay.stop))
            await asyncio.sleep(seconds)
            await self._start_relay()
        await self._until(self._relay_answers, f"the relay after {kind}")

    async def _start_relay(self) -> None:
        """As a supervisor does: the relay exits while its database is down, and is started again."""
        deadline = time.time() + RECOVERY_SECONDS
        while True:
            try:
                await asyncio.to_thread(self._stack.relay.start)
                return
            except AssertionError:
                if time.time() > deadline:
                    raise
                await asyncio.sleep(1)

    def _relay_answers(self) -> bool:
        relay, expected = self._stack.relay, int(self._stack.relay.environ["RELAY_WORKERS"])
        if relay.ended:
            # It gives up while its workers cannot reach the database, and a supervisor starts it again.
            self.log.say("the relay had ended, and is started again")
            with suppress(AssertionError):
                relay.start()
        if len(relay_workers(relay)) < expected:
            return False
        with suppress(httpx.HTTPError):
            return httpx.get(f"{relay.url}/health", timeout=_HEALTH_SECONDS, trust_env=False).status_code in {200, 503}
        return False

    async def _database(self, kind: str, seconds: float) -> None:
        database = self._stack.database
        if database is None:
            return
        if kind == "database_kill":
            await asyncio.to_thread(database.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(database.start)
        else:
            # With its backends: connections that are open get no answer either.
            stopped = [database.pid, *children(database.pid)]
            for pid in stopped:
                self._signal(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            for pid in stopped:
                self._signal(pid, signal.SIGCONT)

    # Peers

    async def _receiver(self, kind: str, seconds: float) -> None:
        receiver = self._stack.receiver
        if kind == "receiver_down":
            await asyncio.to_thread(receiver.stop)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(receiver.start)
        elif kind == "receiver_slow":
            receiver.hanging = True
            await asyncio.sleep(seconds)
            receiver.hanging = False
        else:
            receiver.status_for = lambda number: (500, 503, 429, 0)[number % 4]
            await asyncio.sleep(seconds)
            receiver.status_for = lambda number: 200

    async def _providers(self, kind: str, seconds: float) -> None:
        for provider in _PROVIDERS:
            await self._break_provider(provider, kind)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._stack.providers.clear_rules)
        for provider in _PROVIDERS:
            await asyncio.to_thread(self._stack.providers.start, provider)

    async def _break_provider(self, provider: str, kind: str) -> None:
        providers = self._stack.providers
        if kind == "providers_down":
            await asyncio.to_thread(providers.kill, provider)
            return
        rules: dict[str, dict[str, Any]] = {
            "providers_429": {"outcome": "TooManyRequests" if provider == "apns" else "QUOTA_EXCEEDED"},
            "providers_503": {"status": 503, "body": "<html>Service Unavailable</html>"},
            "providers_silence": {"fault": "silence"},
        }
        rule = rules[kind] | ({"retry_after": "2"} if provider == "fcm" and kind == "providers_429" else {})
        await asyncio.to_thread(providers.script, provider, **rule)

    async def _log_stall(self, kind: str, seconds: float) -> None:
        self._stack.server.reader.stall()
        await asyncio.sleep(seconds)
        self._stack.server.reader.resume()

    # Processes

    async def _stop_process(self, pid: int, master: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after `seconds` unless a watchdog has killed the process before."""
        self._signal(pid, signal.SIGSTOP)
        began = time.time()
        while parent(pid) == master:
            if time.time() > began + seconds:
                self._signal(pid, signal.SIGCONT)
                return
            await asyncio.sleep(0.1)
        self.log.say(f"the stopped worker was killed after {time.time() - began:.1f} s")

    async def _reload(self, master: int, workers: Callable[[], list[int]]) -> None:
        """SIGHUP until all workers are new: a reload is refused while a new worker cannot start (reload_refused)."""
        before, deadline = set(workers()), time.time() + RECOVERY_SECONDS
        while True:
            os.kill(master, signal.SIGHUP)
            try:
                replaced = partial(wait_until, lambda: not before & set(workers()), "new workers", _RELOAD_SECONDS)
                await asyncio.to_thread(replaced)
                return
            except AssertionError:
                if time.time() > deadline:
                    raise

    def _check_exit(self, kind: str, code: int) -> None:
        """A service that is stopped drains and exits with 0 (docs/operations.md)."""
        if code:
            self.log.violations.append(Violation("exit code", kind, str(code)))

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    async def _until(self, condition: Callable[[], Any], what: str) -> None:
        await asyncio.to_thread(wait_until, condition, what, RECOVERY_SECONDS)
