"""Findings about the running service of this host, the same for both services: its health and its metrics."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.bounded.calls import Call
from sigil.serving.health_check import OwnService
from sigil.serving.probes.figures import Figures, NoFigures, read_figures, read_public
from sigil.serving.probes.http import Answer, NoAnswer
from sigil.serving.settings import Secret

_WAIT_SECONDS = 15.0
# The supervisor waits up to 5 s before it starts a worker again that died at once.
_RESAMPLE_SECONDS = 6.0
_MANY_RESTARTS, _SECONDS_PER_RESTART = 3, 600.0
# https://devguide.python.org/versions/: the end of security fixes.
_PYTHON_ENDS = {
    (3, 11): datetime.date(2027, 10, 31),
    (3, 12): datetime.date(2028, 10, 31),
    (3, 13): datetime.date(2029, 10, 31),
    (3, 14): datetime.date(2030, 10, 31),
}


class OwnProbe:
    """The service at `address`, probed once for all findings, each of which waits for the answers that it needs.

    `prefix` is that of its metrics, `workers` the number that the settings give, `certificate` the file that it serves.
    """

    def __init__(
        self, prefix: str, address: OwnService, token: Secret | None, workers: int, certificate: Path | None = None
    ) -> None:
        self.prefix = prefix
        self.address = address
        self.workers = workers
        self._token = token
        self._certificate = certificate
        self._health = Call(lambda: read_public(address, "/health"))
        self._figures = Call(self.sample)

    def sample(self) -> Figures:
        """The metrics as of now; NoFigures."""
        return read_figures(self.address, self._token, self._certificate)

    def health(self) -> Answer:
        """NoAnswer."""
        if not self._health.wait(_WAIT_SECONDS):
            raise NoAnswer("http", "no answer in time")
        return self._health.result()

    def health_members(self) -> dict[str, Any]:
        """The members of the answer of /health, empty without one."""
        try:
            return json_object(self.health().body)
        except NoAnswer:
            return {}

    def server_id(self) -> str | None:
        """Of the running server, as it reports itself; None if it does not."""
        try:
            found = json_object(read_public(self.address, "/info").body).get("server_id")
        except NoAnswer:
            return None
        return found if isinstance(found, str) else None

    def figures(self) -> Figures:
        """The metrics; NoFigures."""
        if not self._figures.wait(_WAIT_SECONDS):
            raise NoFigures("the running server has no figures (no answer in time)", self.address.next_step)
        return self._figures.result()

    def metric(self, name: str, **labels: str) -> float | None:
        """Of `<prefix>_<name>`; None without metrics, and for a metric that the service does not have."""
        try:
            return self.figures().value(f"{self.prefix}_{name}", **labels)
        except NoFigures:
            return None


def json_object(body: bytes) -> dict[str, Any]:
    """Empty for anything else than a JSON object."""
    try:
        found = json.loads(body.decode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_server(probe: OwnProbe) -> Iterator[Result]:
    origin, name = probe.address.origin, "server"
    try:
        answer = probe.health()
    except NoAnswer as error:
        yield failed(name, f"{origin} does not answer: {error.reason}", probe.address.next_step)
        return
    members = json_object(answer.body)
    if "status" not in members:
        step = f"another program may listen there: {probe.address.next_step}"
        yield failed(name, f"{origin} answers {answer.status}, and without the health of this service", step)
        return
    if answer.status != 200:
        details = members.get("details")
        reason = details.get("reason") if isinstance(details, dict) else None
        yield failed(name, f"unhealthy: {reason or answer.status}", "its log has the cause")
        return
    try:
        started = probe.figures().value("process_start_time_seconds")
    except NoFigures as error:
        yield ok(name, f"{members['status']} at {origin}")
        yield still_open(name, f"{error}: findings that need metrics are left out", error.next_step)
        return
    since = f", started {_minute(started)}" if started else ""
    yield ok(name, f"{members['status']} at {origin}{since}")


def check_workers(probe: OwnProbe) -> Iterator[Result]:
    try:
        figures = probe.figures()
    except NoFigures:
        return
    name, metric = "workers", f"{probe.prefix}_worker_restarts_total"
    restarts = figures.value(metric) or 0
    running = figures.value(f"{probe.prefix}_processes")
    # The master, its workers, and the helper of multiprocessing, which is there from the first worker on.
    if running is not None and running < probe.workers + 2:
        yield failed(
            name, f"{running:.0f} processes run, for {probe.workers} workers, their master and its helper",
            "the log has the cause: worker_died, worker_killed",
        )  # fmt: skip
    if not restarts:
        yield ok(name, f"{probe.workers} configured; none was replaced since the start")
        return
    by_reason = figures.by_label(metric, "reason").items()
    reasons = ", ".join(f"{count:.0f} {reason}" for reason, count in by_reason if count)
    uptime = time.time() - (figures.value("process_start_time_seconds") or 0)
    text = f"{restarts:.0f} replaced since the start ({reasons})"
    step = "the log has the cause: worker_died, worker_killed"
    time.sleep(_RESAMPLE_SECONDS)
    try:
        later = probe.sample().value(metric) or 0
    except NoFigures:
        later = restarts
    if later > restarts:
        more = f"{later - restarts:.0f} more within {_RESAMPLE_SECONDS:.0f} s"
        yield failed(name, f"they end again and again: {text}, and {more}", step)
    elif restarts >= _MANY_RESTARTS and uptime / restarts < _SECONDS_PER_RESTART:
        # The metrics do not have the time of a restart: a loop slower than this look, or one that was mended.
        yield failed(
            name, f"many have ended: {text}, none within the last {_RESAMPLE_SECONDS:.0f} s",
            f"{step}, and the time of the last one; if that was mended, restart the service to clear this finding",
        )  # fmt: skip
    else:
        yield still_open(name, text, step)


def check_reload(probe: OwnProbe) -> Iterator[Result]:
    taken, at = probe.metric("last_reload_successful"), probe.metric("last_reload_timestamp_seconds")
    if taken is None:
        return
    if taken:
        yield ok("reload", f"what runs was read at {_minute(at)}" if at else "none since the start")
    else:
        when = f" of {_minute(at)}" if at else ""
        yield failed(
            "reload", f"the last one{when} was refused: the server runs with what it had before",
            "the log event reload_refused has the reason; correct it, then send SIGHUP again (`make reload`)",
        )  # fmt: skip


def check_log_output(probe: OwnProbe) -> Iterator[Result]:
    dropped = probe.metric("log_lines_dropped_total")
    if dropped is None:
        return
    if dropped:
        yield still_open(
            "log_output", f"{dropped:.0f} lines were lost since the start: the reader of standard output stalled",
            "repair what reads the log (journal, Docker, a shipper) or its disk; LOG_LEVEL=warn writes less",
        )  # fmt: skip
    else:
        yield ok("log_output", "no line was lost")


def check_proxy_headers(probe: OwnProbe) -> Iterator[Result]:
    untrusted, shared = probe.metric("untrusted_proxy_headers_total"), probe.metric("trusted_clients_total")
    if untrusted is None and shared is None:
        return
    name, found = "proxy_headers", []
    if untrusted:
        found.append(
            still_open(
                name, f"{untrusted:.0f} requests since the start named their client in a header of a proxy that is not "
                "trusted: the header was ignored, and they share one rate limit",
                "if the proxy is yours, set TRUSTED_PROXY_IP to the address in the log (untrusted_proxy_header)",
            )
        )  # fmt: skip
    if shared:
        found.append(
            still_open(
                name, f"{shared:.0f} requests since the start came from a trusted proxy that named no client: they "
                "share one rate limit",
                "have the proxy send X-Forwarded-For; docs/operations.md, Proxies",
            )
        )  # fmt: skip
    yield from found
    if not found:
        yield ok(name, "no request came through an unknown proxy, or without its client's address")


def check_versions(probe: OwnProbe, version: str, today: datetime.date) -> Iterator[Result]:
    name, runs = "versions", probe.health_members().get("version")
    if isinstance(runs, str) and runs != version:
        yield failed(
            name, f"the server runs {runs}, this program is {version}",
            "restart the server after an upgrade, or use the command of its version",
        )  # fmt: skip
    python = sys.version_info[:2]
    shown = ".".join(map(str, sys.version_info[:3]))
    ends = _PYTHON_ENDS.get(python)
    if ends and today > ends:
        yield still_open(
            name, f"Python {shown} gets no security fixes since {ends:%Y-%m}", "install a newer Python 3, or image"
        )
    else:
        yield ok(name, f"{version}, on Python {shown}")


def _minute(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        # Another program may serve the metrics.
        return f"the time {seconds:g}"
