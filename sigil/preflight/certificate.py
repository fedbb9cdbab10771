"""The certificate that this server serves: present, of an authority, valid for two weeks and for the public address."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509

from sigil.config.settings import Config
from sigil.preflight.result import Result, failed, ok, still_open
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.issuing import is_self_made
from sigil.serving.tls.self_signed import ensure_pair, is_present
from sigil.serving.tls.tls_pair import TlsPair

MIN_DAYS = 14
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
    with open(pair.cert, "rb") as file:  # noqa: PTH123 - a path of an open descriptor
        certificate = x509.load_pem_x509_certificate(file.read())
    pair.close()
    yield from _check(config, certificate, now, behind_proxy)


def _check(
    config: Config, certificate: x509.Certificate, now: datetime.datetime, behind_proxy: bool
) -> Iterator[Result]:
    self_made = is_self_made(certificate)
    self_signed = certificate.issuer == certificate.subject or self_made
    ends = certificate.not_valid_after_utc
    renew = "renew it, then send SIGHUP (`make reload`)"
    # The server renews its own at its start.
    if behind_proxy and self_made:
        yield ok(_NAME, "self-signed, for the proxy, which verifies it; the server renews it")
        return
    if self_signed and not behind_proxy:
        yield failed(_NAME, "self-signed: devices and browsers reject it", "use one of a trusted authority")
    if certificate.not_valid_before_utc > now:
        yield failed(_NAME, "is not valid yet", "check this host's clock")
    elif ends <= now:
        yield failed(_NAME, f"expired on {ends:%Y-%m-%d}", renew)
    elif ends - now < datetime.timedelta(days=MIN_DAYS):
        yield failed(_NAME, f"expires on {ends:%Y-%m-%d}, in less than {MIN_DAYS} days", renew)
    elif self_signed and behind_proxy:
        yield ok(_NAME, f"self-signed, for the proxy, which verifies it, valid until {ends:%Y-%m-%d}")
        return
    elif not self_signed:
        yield ok(_NAME, f"of an authority, valid until {ends:%Y-%m-%d}; its key matches")
    host = urlsplit(config.public_url or "").hostname
    if host and not _covers(certificate, host):
        text = f"is not for {host}, the host of SIGIL_PUBLIC_URL"
        # A proxy in front shows a certificate of its own to clients.
        if config.proxies:
            yield still_open(_NAME, text, "right only if the proxy shows a certificate for that host")
        else:
            yield failed(_NAME, text, "get a certificate for that host, or correct SIGIL_PUBLIC_URL")


def _covers(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    host = host.encode("idna").decode()
    return any(_matches(name.lower(), host) for name in names.get_values_for_type(x509.DNSName))


def _matches(name: str, host: str) -> bool:
    """RFC 6125, 6.4.3: a wildcard stands for the whole first label."""
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host
