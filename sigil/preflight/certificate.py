"""The certificate that this server serves: present, of an authority, valid for two weeks and for the public address."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509

from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.issuing import is_self_made, is_self_signed
from sigil.serving.tls.self_signed import ensure_pair, is_present
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.tls.validity import covers, date_problem

_NAME = "certificate"


def check_certificate(config: Config, now: datetime.datetime) -> Iterator[Result]:
    if config.http_only:
        yield still_open(
            _NAME, "SIGIL_HTTP_PORT serves without TLS", "keep that port between the proxy and this server"
        )
        return
    behind_proxy = config.tls_auto_generate and bool(config.proxies)
    if config.tls_auto_generate and not behind_proxy:
        yield failed(
            "TLS_AUTO_GENERATE", "true without TRUSTED_PROXY_IP: clients would meet a self-signed certificate",
            "behind a proxy of deploy/ set TRUSTED_PROXY_IP; else set it to false and provide a certificate",
        )  # fmt: skip
    try:
        absent = not (is_present(config.tls_cert) or is_present(config.tls_key))
        if absent and config.tls_auto_generate:
            if behind_proxy:
                yield ok(_NAME, "the server makes one at its first start; the proxy verifies it")
            return
        ensure_pair(config.tls_cert, config.tls_key, generate=False)
        pair = TlsPair(config.tls_cert, config.tls_key)
    except StartupError as error:
        yield failed(_NAME, str(error), "mount the directory of the pair with SIGIL_TLS_DIR; user 10001 reads it")
        return
    certificate = pair.certificate
    pair.close()
    yield from _check(config, certificate, now, behind_proxy)


def _check(
    config: Config, certificate: x509.Certificate, now: datetime.datetime, behind_proxy: bool
) -> Iterator[Result]:
    self_made = is_self_made(certificate)
    self_signed = is_self_signed(certificate)
    ends = certificate.not_valid_after_utc
    # The server renews its own at its start.
    if behind_proxy and self_made:
        yield ok(_NAME, "self-signed, for the proxy, which verifies it; the server renews it")
        return
    if self_signed and not behind_proxy:
        yield failed(_NAME, "self-signed: devices and browsers reject it", "use one of a trusted authority")
    if problem := date_problem(certificate, now):
        text, _, step = problem.partition(": ")
        yield failed(_NAME, text, step)
    elif self_signed and behind_proxy:
        yield ok(_NAME, f"self-signed, for the proxy, which verifies it, valid until {ends:%Y-%m-%d}")
        return
    elif not self_signed:
        yield ok(_NAME, f"of an authority, valid until {ends:%Y-%m-%d}; its key matches")
    host = urlsplit(config.public_url or "").hostname
    if host and not covers(certificate, host):
        text = f"is not for {host}, the host of SIGIL_PUBLIC_URL"
        # A proxy in front shows a certificate of its own to clients.
        if config.proxies:
            yield still_open(_NAME, text, "right only if the proxy shows a certificate for that host")
        else:
            yield failed(_NAME, text, "get a certificate for that host, or correct SIGIL_PUBLIC_URL")
