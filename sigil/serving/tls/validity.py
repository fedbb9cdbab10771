"""Whether clients accept the certificate of this server: its dates and its names."""

from __future__ import annotations

import datetime
import ipaddress
import stat
from pathlib import Path

from cryptography import x509

from sigil.serving.bounded import files
from sigil.serving.tls.issuing import is_self_made

MIN_DAYS = 14
_MAX_BYTES = 64 * 1024


def validity_warnings(path: Path, now: datetime.datetime, *, host: str | None, renews_own: bool) -> list[str]:
    """A line for each reason why clients reject the certificate in `path`, now or soon. None for a file without one,
    which has an error of its own.

    `host` is the name that clients use, None where a proxy shows them its own certificate. `renews_own`: the server
    renews a certificate that it made.
    """
    certificate = first_certificate(path)
    if certificate is None:
        return []
    problems = []
    if not (renews_own and is_self_made(certificate)) and (problem := date_problem(certificate, now)):
        problems.append(problem)
    if host and not covers(certificate, host):
        problems.append(
            f"is not for {host}, the host of SIGIL_PUBLIC_URL, and clients reject it there: get a certificate for that "
            "host, or correct SIGIL_PUBLIC_URL"
        )
    return [f"TLS: {path} {problem}" for problem in problems]


def date_problem(certificate: x509.Certificate, now: datetime.datetime) -> str | None:
    """What is wrong with the dates, and what to do; None for nothing."""
    ends, renew = certificate.not_valid_after_utc, "renew it, then send SIGHUP (`make reload`)"
    if certificate.not_valid_before_utc > now:
        return f"is not valid yet, but from {certificate.not_valid_before_utc:%Y-%m-%d}: check this host's clock"
    if ends <= now:
        return f"expired on {ends:%Y-%m-%d}: {renew}"
    if ends - now < datetime.timedelta(days=MIN_DAYS):
        return f"expires on {ends:%Y-%m-%d}, in less than {MIN_DAYS} days: {renew}"
    return None


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether the certificate is for `host`, a name or an IP address."""
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


def first_certificate(path: Path) -> x509.Certificate | None:
    """The first of the file; None if it cannot be read."""
    try:
        # What is read from a pipe is gone, and the server needs it.
        if not stat.S_ISREG(files.status(path).st_mode):
            return None
        return x509.load_pem_x509_certificates(files.read(path, _MAX_BYTES, pipe_seconds=0).data)[0]
    except (OSError, ValueError):
        return None
