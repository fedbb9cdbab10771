"""What the running relay carries: registrations, queued pushes, and the servers that it rejected."""

from __future__ import annotations

from collections.abc import Iterator

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.probes.figures import NoFigures
from sigil.serving.probes.service import OwnProbe

_NEAR = 0.9
_OLD_SECONDS = 120
_REASONS = {
    "clock": "the clock of a server differs by more than 60 s",
    "unknown_server": "a server is not trusted: `sigil-relay servers trust SERVER_ID`, if it is yours",
    "not_registered": "a server has not registered yet, which it does by itself",
}


def check_devices(probe: OwnProbe) -> Iterator[Result]:
    limit = probe.metric("devices_limit")
    if limit is None:
        return
    # There is a sample for each platform with devices.
    count = probe.metric("devices") or 0
    text = f"{count:.0f} of {limit:.0f} registrations (RELAY_MAX_DEVICES)"
    step = "raise RELAY_MAX_DEVICES, or find who registers so many (docs/relay.md)"
    if count >= limit:
        yield failed("devices", f"{text}: unused ones are deleted, then new ones are rejected", step)
    elif count >= _NEAR * limit:
        yield still_open("devices", text, step)
    else:
        yield ok("devices", text)


def check_queue(probe: OwnProbe) -> Iterator[Result]:
    queued, oldest = probe.metric("pushes_queued"), probe.metric("push_queue_oldest_seconds")
    if queued is None:
        return
    text = f"{queued:.0f} pushes queued"
    if oldest is not None and oldest > _OLD_SECONDS:
        step = "see the findings provider_apns, provider_fcm and registry"
        yield failed("outboxes", f"{text}, one of them due for {oldest:.0f} s", step)
    else:
        yield ok("outboxes", text)


def check_rejected(probe: OwnProbe) -> Iterator[Result]:
    try:
        found = probe.figures().by_label("relay_server_requests_rejected_total", "reason")
    except NoFigures:
        return
    rejected = {reason: count for reason, count in found.items() if count}
    if not rejected:
        yield ok("relay_trust", "no request of a server was rejected since the start")
        return
    shown = ", ".join(f"{count:.0f} {reason}" for reason, count in rejected.items())
    hints = [_REASONS[reason] for reason in rejected if reason in _REASONS]
    yield still_open(
        "relay_trust", f"requests of servers were rejected since the start: {shown}",
        "; ".join([*hints, "the log event server_request_rejected names the server and its address"]),
    )  # fmt: skip
