"""The certificate that the running server serves, seen in a handshake as a client's."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.probes import public_address
from sigil.serving.probes.http import NoAnswer
from sigil.serving.probes.service import OwnProbe
from sigil.serving.tls.issuing import is_self_made, is_self_signed
from sigil.serving.tls.validity import covers, date_problem, first_certificate

_NAME = "certificate"


def check(config: Config, probe: OwnProbe, now: datetime.datetime) -> Iterator[Result]:
    if config.http_only:
        yield from public_address.check("SIGIL_PUBLIC_URL", config.public_url, now)
        return
    if config.proxies and config.public_url:
        yield from public_address.check("SIGIL_PUBLIC_URL", config.public_url, now)
    in_file = first_certificate(config.tls_cert)
    if in_file is None:
        yield failed(
            _NAME, f"{config.tls_cert} holds no certificate that this user can read",
            "see the finding permissions, or correct TLS_CERT_PATH",
        )  # fmt: skip
    try:
        served = x509.load_der_x509_certificate(probe.health().certificate)
    except (NoAnswer, ValueError):
        # `server` reports why. The file still shows what the next start will serve.
        served = None
    certificate = served or in_file
    if certificate is None:
        return
    what = "the served certificate" if served else f"the server is not seen; {config.tls_cert}"
    problems = list(_problems(config, certificate, now, what))
    if served and in_file and served.public_bytes(Encoding.DER) != in_file.public_bytes(Encoding.DER):
        text = f"the server serves another certificate than {config.tls_cert} holds"
        problems.append(still_open(_NAME, text, "send SIGHUP (`make reload`), or restart the server"))
    yield from problems
    if not problems:
        kind = ", self-signed and renewed by the server" if is_self_made(certificate) else ""
        yield ok(_NAME, f"{what} is valid until {certificate.not_valid_after_utc:%Y-%m-%d}{kind}")


def _problems(config: Config, certificate: x509.Certificate, now: datetime.datetime, what: str) -> Iterator[Result]:
    ended = certificate.not_valid_after_utc <= now
    renewed = config.tls_auto_generate and is_self_made(certificate) and not ended
    if not renewed and (problem := date_problem(certificate, now)):
        text, _, step = problem.partition(": ")
        yield failed(_NAME, f"{what} {text}", step)
    origin = config.device_app_origin
    if origin and origin.startswith("https:") and is_self_signed(certificate) and not config.proxies:
        yield still_open(
            _NAME, f"{what} is self-signed: browsers do not run the web app at {origin}/device/",
            "use a certificate of a trusted authority, or set SIGIL_DEVICE_APP=off",
        )  # fmt: skip
    host = urlsplit(config.public_url or "").hostname
    if host and not covers(certificate, host):
        text = f"{what} is not for {host}, the host of SIGIL_PUBLIC_URL"
        # A proxy in front shows a certificate of its own to clients.
        if config.proxies:
            if not is_self_made(certificate):
                yield still_open(_NAME, text, "right only if the proxy shows a certificate for that host")
        else:
            yield failed(_NAME, text, "get a certificate for that host, or correct SIGIL_PUBLIC_URL")
