"""All checks, in the order in which an operator reads them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from sigil.config.settings import load
from sigil.console.findings.result import Result, failed, still_open
from sigil.preflight.certificate import check_certificate
from sigil.preflight.host import check_host
from sigil.preflight.secrets import check_mnemonic, check_shared_secrets, check_sources
from sigil.preflight.settings import check_settings
from sigil.serving.settings import ConfigError


def run_checks(environ: Mapping[str, str], now: datetime.datetime) -> list[Result]:
    """Every check, without a change and without the network. With invalid settings, only what does not need them."""
    results = list(check_sources(environ))
    try:
        config = load(environ)
    except ConfigError as error:
        results += [failed("settings", line) for line in error.lines]
        results.append(
            still_open("checklist", "the other checks need valid settings", "correct them, then run this again")
        )
        return results
    results += check_mnemonic(config)
    results += check_shared_secrets(config)
    results += check_settings(config)
    results += check_certificate(config, now)
    results += check_host(config, now)
    return results
