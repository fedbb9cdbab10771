"""The certificate that clients see at the public address of a service: behind a proxy it is the proxy's."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator

from cryptography import x509

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.probes.http import NoAnswer, handshake
from sigil.serving.tls.validity import date_problem

_NAME = "certificate"


def certificate_problem(der: bytes) -> str | None:
    """What is wrong with the dates of a certificate that a peer has shown; None for nothing, and without one."""
    if not der:
        return None
    problem = date_problem(x509.load_der_x509_certificate(der), datetime.datetime.now(datetime.UTC))
    return problem and problem.partition(":")[0]


def check(setting: str, url: str | None, now: datetime.datetime) -> Iterator[Result]:
    """Of the address in `setting`, verified as clients verify it."""
    if not url or not url.startswith("https:"):
        yield ok(_NAME, f"{setting} is no https address: none to examine")
        return
    try:
        shown = handshake(url, ssl.create_default_context())
    except NoAnswer as error:
        if error.phase == "tls":
            step = "renew the certificate of the proxy, or correct the address"
            yield failed(_NAME, f"{url} ({setting}): {error.reason}", step)
        else:
            # A gateway may not lead back to its own network.
            yield still_open(
                _NAME, f"{url} ({setting}) cannot be reached from here: {error.reason}", "open it from another network"
            )
        return
    certificate = x509.load_der_x509_certificate(shown)
    if problem := date_problem(certificate, now):
        text, _, step = problem.partition(": ")
        yield failed(_NAME, f"that of {url} {text}", step)
    else:
        yield ok(_NAME, f"that of {url} is valid until {certificate.not_valid_after_utc:%Y-%m-%d}")
