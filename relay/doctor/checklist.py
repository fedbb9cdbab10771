"""All checks of a relay, and the order in which an operator reads their findings."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import partial

from relay import __version__
from relay.address import own_relay
from relay.config import Config, load_with_faults
from relay.doctor import load, providers, registry, settings, web_push
from sigil.console.findings.report import Report
from sigil.serving.health_check import OwnService
from sigil.serving.probes import public_address, service, steps
from sigil.serving.probes.host import check_swap
from sigil.serving.probes.service import OwnProbe
from sigil.serving.settings import ConfigError

GROUPS = {
    "Relay": (
        "server", "permissions", "settings", "certificate", "workers", "reload", "proxy_headers", "log_output",
        "versions",
    ),
    "Database": ("registry", "devices", "outboxes"),
    "Providers": ("provider_apns", "provider_fcm", "provider_webpush"),
    "Servers": ("relay_trust",),
    "Host": ("clock", "swap"),
}  # fmt: skip
"""`permissions` is before `settings`: for another user than the server's, files that cannot be read are no fault."""
SECONDS = 25.0
"""For all checks, which run at once: the whole command has 30 s."""


def run_checks(environ: Mapping[str, str]) -> Report:
    now = datetime.datetime.now(datetime.UTC)
    config, faults = load_with_faults(environ)
    probe = OwnProbe("relay", _address(environ, config), config.metrics_token, config.workers)
    checks: dict[str, steps.Check] = {
        "server": partial(service.check_server, probe),
        "settings": partial(settings.check, config, faults),
        "certificate": partial(public_address.check, "RELAY_PUBLIC_URL", config.public_url, now),
        "workers": partial(service.check_workers, probe),
        "reload": partial(service.check_reload, probe),
        "proxy_headers": partial(service.check_proxy_headers, probe),
        "log_output": partial(service.check_log_output, probe),
        "versions": partial(service.check_versions, probe, __version__, now.date()),
        "registry": partial(registry.check, config, probe),
        "devices": partial(load.check_devices, probe),
        "outboxes": partial(load.check_queue, probe),
        "relay_trust": partial(load.check_rejected, probe),
        "provider_apns": partial(providers.check, "apns", config, probe),
        "provider_fcm": partial(providers.check, "fcm", config, probe),
        "provider_webpush": partial(web_push.check, config),
        "permissions": partial(settings.check_permissions, config, environ),
        "swap": lambda: [check_swap()],
    }
    # With a fault, what would be examined is a default, which means nothing.
    for name, variables in (
        ("registry", ("DATABASE_URL", "RELAY_DATA_DIR")),
        ("provider_apns", ("APNS_",)),
        ("provider_fcm", ("FCM_",)),
        ("provider_webpush", ("RELAY_WEBPUSH_",)),
    ):
        if any(fault.startswith(variables) for fault in faults):
            del checks[name]
    results = steps.run(checks, SECONDS)
    return Report("sigil-relay", __version__, now.strftime("%Y-%m-%dT%H:%M:%SZ"), GROUPS, results)


def _address(environ: Mapping[str, str], config: Config) -> OwnService:
    try:
        return own_relay(environ)
    except ConfigError:
        # `settings` reports the fault.
        return OwnService("127.0.0.1", config.port, tls=False, next_step="correct the settings of the address")
