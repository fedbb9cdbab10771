"""A health check with few imports: a container engine runs it every ten seconds for each service.

It imports the standard library and `settings` alone, neither click nor httpx, and ssl only for https: that saves three
quarters of the processor time. `main` runs before a command line is built.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sigil.protocol.encoding.display_text import printable
from sigil.protocol.encoding.plain_text import NotPlainText, text_of
from sigil.serving import settings
from sigil.serving.settings import ConfigError

if TYPE_CHECKING:
    from ssl import SSLContext

_SECONDS = 5.0
_MAX_BYTES = 64 * 1024
_MAX_SHOWN = 2000


class Health(NamedTuple):
    """`text` is the body of the answer, or why there is none and what to do next."""

    text: str
    healthy: bool


class OwnService(NamedTuple):
    """The address of a service as its own host reaches it. `next_step` says what to do if the port does not answer."""

    host: str
    port: int
    tls: bool
    next_step: str

    @property
    def origin(self) -> str:
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"


def main(program: str, arguments: Sequence[str], own: Callable[[Mapping[str, str]], OwnService]) -> None:
    """`program health` with the `arguments` after that; ends the process. Returns for arguments that click explains."""
    given = _options(arguments)
    if given is None:
        return
    try:
        health = query(own, given.get("--url"), given.get("--ca"))
    except ConfigError as error:
        sys.stderr.writelines(f"{program}: {line}\n" for line in error.lines)
        sys.exit(1)
    sys.stdout.write(health.text + "\n")
    sys.exit(0 if health.healthy else 1)


def query(own: Callable[[Mapping[str, str]], OwnService], url: str | None = None, ca: str | None = None) -> Health:
    """The health of the service at `url`, whose certificate is verified: by the authorities of the file `ca`, or of the
    system. Without `url`, of this host's `own` service, whose certificate is not verified. ConfigError.

    A renewed certificate that waits for its SIGHUP would make a healthy server fail the check, and have its container
    killed. The request and the response hold nothing secret, and stay on this host.
    """
    if url is None:
        if ca is not None:
            raise ConfigError(
                ["--ca needs --url: without it the certificate of this host's own server is not verified"]
            )
        service = own(os.environ)
        return _bounded(service.origin, _own_context, service.next_step)
    try:
        base = settings.url(url)
    except ValueError as error:
        raise ConfigError([f"--url {error}"]) from None
    return _bounded(base, lambda: _verifying_context(ca), "check the URL, and that the service runs")


def runs(service: OwnService) -> bool:
    """Whether a service of this project answers there, healthy or not."""
    return _bounded(service.origin, _own_context, "").text.startswith("{")


def _options(arguments: Sequence[str]) -> dict[str, str] | None:
    """None for options that are not `--url URL` and `--ca FILE`, once each."""
    given: dict[str, str] = {}
    left = [part for argument in arguments for part in _split(argument)]
    while left:
        name, *left = left
        if name not in {"--url", "--ca"} or name in given or not left:
            return None
        given[name], *left = left
    return given


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name in {"--url", "--ca"} else [argument]


def _bounded(base: str, context: Callable[[], SSLContext], next_step: str) -> Health:
    """In a thread of its own, which the end of the process ends: a lookup of a name has no time-out."""
    found: list[Health] = []

    def attempt() -> None:
        try:
            found.append(_read(_exchange(base, context)))
        except (OSError, ValueError) as error:
            found.append(Health(f"{base}: {_reason(error, next_step)}", healthy=False))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return found[0] if found else Health(f"{base}: no answer within {_SECONDS:.0f} s; {next_step}", healthy=False)


def _exchange(base: str, context: Callable[[], SSLContext]) -> bytes:
    """The answer to GET /health up to its end, or its first bytes; OSError, ValueError. No proxy, no redirect."""
    parts = urlsplit(base)
    tls = parts.scheme == "https"
    # In a URL the zone of an IPv6 address is escaped.
    host = unquote(parts.hostname or "")
    name = host if ":" in host else host.encode("idna").decode()
    deadline = time.monotonic() + _SECONDS
    with socket.create_connection((name, parts.port or (443 if tls else 80)), _SECONDS) as plain:
        connection = context().wrap_socket(plain, server_hostname=name) if tls else plain
        with connection:
            request = (
                f"GET {quote(parts.path, safe='/%~')}/health HTTP/1.1\r\nHost: {_host_field(name, parts.port)}\r\n"
            )
            connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
            answer = b""
            while len(answer) < _MAX_BYTES:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                received = connection.recv(_MAX_BYTES - len(answer))
                if not received:
                    break
                answer += received
    return answer


def _host_field(name: str, port: int | None) -> str:
    host = f"[{name.partition('%')[0]}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"


def _read(answer: bytes) -> Health:
    """Healthy if the status is 200 and the body an object of /health; ValueError if it is no HTTP answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split(b" ")
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        raise ValueError
    # Past the lengths of a chunked body, which a proxy may send.
    text = body[body.find(b"{") : body.rfind(b"}") + 1].decode(errors="replace")
    try:
        member = json.loads(text).get("status")
    # Thousands of nested objects.
    except (ValueError, RecursionError):
        member = None
    shown = printable(text[:_MAX_SHOWN]) if member else f"HTTP {int(status[1][:3])}, and no health of this service"
    if status[1].startswith(b"3"):
        shown += "; redirects are not followed: pass the URL to which it redirects"
    return Health(shown, healthy=status[1] == b"200" and isinstance(member, str))


def _own_context() -> SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verifying_context(ca: str | None) -> SSLContext:
    import ssl

    # Not create_default_context: from Python 3.13 it refuses self-signed certificates without key identifiers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=text_of(Path(ca).read_bytes()))
    except NotPlainText as error:
        raise _Explained(f"--ca {ca} {error}") from None
    except (ssl.SSLError, TypeError):
        # TypeError: not ASCII.
        raise _Explained(f"--ca {ca}: holds no certificate in PEM") from None
    except OSError as error:
        raise _Explained(f"--ca {ca}: {error.strerror}") from None
    # The file may hold the server's own certificate rather than an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class _Explained(ValueError):
    """Its text names the next step already."""


def _reason(error: OSError | ValueError, next_step: str) -> str:
    if isinstance(error, _Explained):
        return str(error)
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message.rstrip('.')}): pass --ca FILE with the "
            "certificate that signs it, and use a host that it names"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason}): check the port, and http or https; {next_step}"
    if isinstance(error, TimeoutError):
        return f"no answer within {_SECONDS:.0f} s; {next_step}"
    if isinstance(error, socket.gaierror):
        return f"the name of the host cannot be resolved ({error.strerror}); {next_step}"
    if isinstance(error, OSError):
        reason = "connection refused: no program listens there" if error.errno == errno.ECONNREFUSED else error.strerror
        return f"{reason}; {next_step}"
    return f"no HTTP answer: check the port, and http or https; {next_step}"
