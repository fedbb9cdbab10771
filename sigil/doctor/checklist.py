"""All checks of a server, and the order in which an operator reads their findings."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from functools import partial

from sigil import __version__
from sigil.config.address import own_server
from sigil.config.settings import Config, load_with_faults
from sigil.console.findings.report import Report
from sigil.console.findings.result import Result, still_open
from sigil.doctor import attestation, certificate, relay, settings, store, webhook
from sigil.serving.health_check import OwnService
from sigil.serving.probes import service, steps
from sigil.serving.probes.host import check_swap
from sigil.serving.probes.service import OwnProbe
from sigil.serving.settings import ConfigError

GROUPS = {
    "Server": (
        "server", "permissions", "settings", "attestation", "certificate", "workers", "reload", "proxy_headers",
        "log_output", "versions",
    ),
    "Relay": ("relay", "relay_trust", "clock", "registry"),
    "Sessions": ("store", "outboxes", "webhook"),
    "Host": ("swap",),
}  # fmt: skip
"""`permissions` is before `settings`: for another user than the server's, files that cannot be read are no fault."""
SECONDS = 25.0
"""For all checks, which run at once: the whole command has 30 s."""


def run_checks(environ: Mapping[str, str], *, send_test: bool) -> Report:
    now = datetime.datetime.now(datetime.UTC)
    config, faults = load_with_faults(environ)
    probe = OwnProbe("sigil", _address(environ, config), config.metrics_token, config.workers, config.tls_cert)
    checks: dict[str, steps.Check] = {
        "server": partial(_server, config, probe),
        "settings": partial(settings.check, config, faults),
        "attestation": partial(attestation.check, config, now),
        "certificate": partial(certificate.check, config, probe, now),
        "workers": partial(service.check_workers, probe),
        "reload": partial(service.check_reload, probe),
        "proxy_headers": partial(service.check_proxy_headers, probe),
        "log_output": partial(service.check_log_output, probe),
        "versions": partial(service.check_versions, probe, __version__, now.date()),
        "relay": partial(relay.check, config, probe),
        "store": partial(store.check_store, config, probe),
        "outboxes": partial(store.check_outboxes, probe),
        "webhook": partial(webhook.check, config.webhook, probe, send_test=send_test),
        "permissions": partial(settings.check_permissions, config, environ, os.geteuid()),
        "swap": lambda: [check_swap()],
    }
    for name, variables in (("relay", ("RELAY_URL",)), ("webhook", ("WEBHOOK_",))):
        if any(fault.startswith(variables) for fault in faults):
            # Its address would be the default, which means nothing.
            del checks[name]
    results = steps.run(checks, SECONDS)
    return Report("sigil", __version__, now.strftime("%Y-%m-%dT%H:%M:%SZ"), GROUPS, results)


def _address(environ: Mapping[str, str], config: Config) -> OwnService:
    try:
        return own_server(environ)
    except ConfigError:
        # `settings` reports the fault.
        return OwnService("127.0.0.1", config.port, not config.http_only, "correct the settings of the address")


def _server(config: Config, probe: OwnProbe) -> Iterator[Result]:
    yield from service.check_server(probe)
    if probe.health_members().get("status") == "initializing":
        yield still_open(
            "server", "init mode: the server waits for its first boot",
            f"open {config.public_url or probe.address.origin}/init with the setup token of its log",
        )  # fmt: skip
