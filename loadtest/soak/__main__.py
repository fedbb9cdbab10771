"""A soak: server, relay, database, providers and webhook receiver under load, while faults come at once.

    make soak                                      30 minutes, on PostgreSQL
    make soak SECONDS=120 ARGS="--seed 7"          the faults of a seed, shorter
    python -m loadtest.soak --seconds 40 --database sqlite

Exits with 1 when a decision was lost, doubled or changed, an event is missing, a client met an error that it may not
retry, a service did not recover, or memory or descriptors grew. loadtest/README.md describes all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import time
from pathlib import Path

import uvloop

from loadtest.soak import report as reports
from loadtest.soak.api import Api, Record
from loadtest.soak.devices import Fleet, SoakDevice
from loadtest.soak.faults import FaultLog, Faults
from loadtest.soak.floods import Floods
from loadtest.soak.ledger import Ledger, Violation
from loadtest.soak.load import Load
from loadtest.soak.schedule import KINDS, plan
from loadtest.soak.stack import WEBHOOK_SECRET, Stack, stack
from loadtest.soak.watch import EMPTY_AT_THE_END, Watch, growth_violations, kept_descriptors, store_violations
from sigil.device.http.tls import TlsTrust
from sigil.device.server_pin import verify_info
from sigil.sdk import WebhookRefused, webhooks

_BACKENDS = 6
_CALM_SECONDS = 5.0
_EMPTY_SECONDS = 300.0
"""Until the last event has arrived and the gauges are empty: no bound on speed, but an end."""
_SAY_SECONDS = 20.0
# The server logs these when its own code fails; no fault of its environment may cause them.
_OWN_FAULTS = ("internal_error",)


class Soak:
    """One run. Times are Unix seconds."""

    def __init__(self, running: Stack, options: argparse.Namespace) -> None:
        self._stack, self._options = running, options
        self._began = time.time()
        self.ledger, self.record = Ledger(), Record()
        self.log = FaultLog(self._say)
        self.others: list[Violation] = []
        self.watch = Watch(running)
        self._read_arrivals = 0

    async def run(self) -> reports.Report:
        options, server = self._options, self._stack.server
        # The processes of the stack end with this one. An exception of a signal handler could end in any callback.
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        tls, apis = self._stack.tls, []
        keys = self._stack.api_keys
        for number in range(_BACKENDS):
            apis.append(Api(server.url, tls, f"127.1.1.{number + 1}", self.record, keys[number % (len(keys) - 1)]))
        device_apis = [Api(server.url, tls, f"127.1.2.{number + 1}", self.record) for number in range(options.devices)]
        devices = [SoakDevice(n, api, self.ledger, self.others.append) for n, api in enumerate(device_apis)]
        info = await apis[0].call("info", "GET", "/info")
        if info is None:
            raise SystemExit("the server does not answer /info")
        trust = TlsTrust(ca_pem=server.certificate.read_text(encoding="utf-8"))
        pin = verify_info(info.raw, server.url, pin=server.identity.server_id, tls=trust)
        fleet = Fleet(self._stack, pin, devices, self.others.append)
        await fleet.start()
        load = Load(apis, devices, self.ledger, self.record, pin.server_id)
        self.record.begin(time.time())
        stopped, watched = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(self.watch.run(max(1.0, min(5.0, options.seconds / 60)), watched))
        loading = asyncio.create_task(load.run(options.rate, stopped))
        await asyncio.sleep(_CALM_SECONDS)
        descriptors = self.watch.descriptors()
        flooder = Api(server.url, tls, "127.66.7.1", self.record, keys[-1])
        floods = Floods(server.url, self._stack.relay.ws_url, tls, keys[-1], lambda: load.unanswered(flooder))
        await self._make_faults(floods)
        stopped.set()
        await loading
        self._say("all faults have ended; following the rest to their final states")
        await load.drain()
        await fleet.stop()
        for api in (*apis, *device_apis, flooder):
            await api.aclose()
        await self._until_empty()
        watched.set()
        await watching
        self.others += kept_descriptors(descriptors, self.watch.descriptors())
        return self._report(floods)

    async def _make_faults(self, floods: Floods) -> None:
        options = self._options
        faults = Faults(self._stack, floods, self.log, options.seed)
        targets = [target for target in KINDS if target != "database" or self._stack.database is not None]
        until = time.time() + options.seconds
        planned = plan(options.seed, options.seconds, targets)
        work = (faults.run(target, planned[target], len(KINDS[target]), until) for target in targets)
        await asyncio.gather(*work, asyncio.sleep(options.seconds), self._read_events(until))

    async def _read_events(self, until: float) -> None:
        while time.time() < until:
            self._take_events()
            await asyncio.sleep(1)

    def _take_events(self) -> None:
        """Verifies what the receiver got, and enters it into the ledger."""
        arrivals = self._stack.receiver.arrivals
        for arrival in arrivals[self._read_arrivals :]:
            self._read_arrivals += 1
            try:
                event = webhooks.verify(arrival.headers, arrival.body, WEBHOOK_SECRET, clock=lambda at=arrival.at: at)
            except WebhookRefused as error:
                self.others.append(Violation("webhook refused", arrival.headers.get("webhook-id", ""), str(error)))
                continue
            if arrival.status == 200:
                subject = event.challenge_id or event.mpa_id or ""
                self.ledger.event(event.id, event.type, subject, event.status)

    async def _until_empty(self) -> None:
        """Waits for the last events and for empty gauges; what is left after _EMPTY_SECONDS is a violation."""
        deadline = time.time() + _EMPTY_SECONDS
        said = time.time()
        while True:
            self._take_events()
            gauges = await self.watch.gauges()
            full = {name: gauges[name] for name in EMPTY_AT_THE_END if gauges.get(name)}
            if gauges and not full and not self.ledger.missing_events():
                return
            if time.time() > said + _SAY_SECONDS:
                said = time.time()
                self._say(f"waiting: {len(self.ledger.missing_events())} events; not empty yet: {full}")
            if time.time() > deadline:
                self.others += [Violation("not empty", name, f"{value:.0f} at the end") for name, value in full.items()]
                return
            await asyncio.sleep(0.5)

    def _report(self, floods: Floods) -> reports.Report:
        seconds = time.time() - self._began
        events = self._stack.server.reader.events
        self.others += growth_violations(self.watch.series)
        self.others += store_violations(self.watch.peaks.get("sigil_store_bytes", 0), len(self.ledger.entries))
        self.others += [Violation("flood", text, f"{count} times") for text, count in floods.unexpected().items()]
        self.others += [Violation("log", name, f"{events[name]} times") for name in _OWN_FAULTS if events[name]]
        return reports.make_report(
            self._options.seed,
            seconds,
            decisions=(self.ledger, self.record, self.log),
            others=self.others,
            growth=reports.growth_of(self.watch.series, self.watch.peaks),
            flood_responses=floods.statuses,
            log_events=events,
        )

    def _say(self, text: str) -> None:
        print(f"{time.time() - self._began:7.1f} s  {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="of faults; every kind comes at least once")
    parser.add_argument("--seed", type=int, default=None, help="of the faults; printed, random by default")
    parser.add_argument("--rate", type=float, default=8, help="new challenges and approval requests a second")
    parser.add_argument("--devices", type=int, default=24)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--reports", type=Path, default=Path(".load"))
    options = parser.parse_args()
    options.seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    options.reports.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stack(options.reports, postgres=options.database == "postgres", keys=3) as running:
        try:
            report = uvloop.run(Soak(running, options).run())
        except asyncio.CancelledError:
            return 1
    path = options.reports / f"soak-{int(time.time())}.json"
    reports.write(report, path)
    print("\n".join([*reports.lines(report), f"report {path}"]), flush=True)
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
