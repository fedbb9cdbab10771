"""GET /metrics of a server, bounded in bytes and time. No proxy, no redirect."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from sigil.config.own_metrics import own_metrics, token_in
from sigil.protocol.encoding.plain_text import NotPlainText, text_of
from sigil.serving import health_check, settings
from sigil.serving.bounded import files
from sigil.serving.settings import ConfigError, Secret

SECONDS = 5.0
_MAX_BYTES = 4 << 20
_PART = 1 << 16
# Of the ten wrong tokens a minute, readers on the same host, such as Prometheus, keep eight.
_WRONG_TOKEN_SECONDS = 30.0
_MAX_PAUSE = 300.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_MISSING = (
    "it requires METRICS_TOKEN, and this command has none: set METRICS_TOKEN_FILE, or use --url with --token-file"
)
_WRONG = "it does not accept this token: use that of METRICS_TOKEN of the running server"


class Unreadable(Exception):
    """Its text says why there are no figures, and what to do. `pause` is how long to wait before the next attempt."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Answer(NamedTuple):
    """`now` is the time of day of the server, in Unix seconds."""

    text: str
    now: float


class Source:
    """The metrics of one server. `base` is its URL; `context` makes the TLS settings; a `pinned` file holds the only
    certificate that it may show.
    """

    def __init__(
        self,
        base: str,
        token: Secret | None,
        context: Callable[[], ssl.SSLContext],
        next_step: str,
        pinned: Path | None = None,
    ) -> None:
        self.base = base
        self._token = token
        self._context = context
        self._next_step = next_step
        self._pinned = pinned

    @classmethod
    def of_settings(cls, environ: Mapping[str, str]) -> Source:
        """This host's server, whose certificate need not name this address; ConfigError.

        The token goes to the holder of the certificate alone: while the server is down, another user's program may
        listen on its port.
        """
        own = own_metrics(environ)
        pinned = own.certificate if own.service.tls and own.token else None
        return cls(own.service.origin, own.token, health_check.unverified_context, own.service.next_step, pinned)

    @classmethod
    def at(cls, url: str, ca: str | None, token_file: str | None) -> Source:
        """Another server; ConfigError. The token of the settings is not for it."""
        try:
            base = settings.url(url)
        except ValueError as error:
            raise ConfigError([f"--url {error}"]) from None
        token = token_in(token_file, "--token-file") if token_file else None
        parts = urlsplit(base)
        if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ConfigError(["--url: the token needs https, except for 127.0.0.1, ::1 and localhost"])
        return cls(base, token, lambda: health_check.verifying_context(ca), "check the URL, and that the server runs")

    def read(self) -> Answer:
        """Unreadable. It takes SECONDS, and longer only where the lookup of a name hangs."""
        try:
            return self._exchange()
        except (http.client.HTTPException, OSError, ValueError) as error:
            if isinstance(error, http.client.HTTPException):
                error = ValueError()
            raise Unreadable(health_check.reason(error, self._next_step)) from None

    def _exchange(self) -> Answer:
        parts = urlsplit(self.base)
        # In a URL the zone of an IPv6 address is escaped.
        host, tls = unquote(parts.hostname or ""), parts.scheme == "https"
        host = host if ":" in host else host.encode("idna").decode()
        connection = http.client.HTTPConnection(host, parts.port or (443 if tls else 80), timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        with contextlib.closing(connection):
            connection.connect()
            plain = connection.sock
            if tls:
                connection.sock = self._context().wrap_socket(plain, server_hostname=host)
                self._check_pin(connection.sock)
            # Each read has a time-out of its own; this one ends them all.
            timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [connection.sock])
            timer.daemon = True
            timer.start()
            try:
                path = f"{quote(parts.path, safe='/%~')}/metrics"
                connection.request("GET", path, headers=self._headers(health_check.host_field(host, parts.port)))
                response = connection.getresponse()
                if response.status != 200:
                    raise self._explained(response)
                text = _body(response).decode(errors="replace")
            finally:
                timer.cancel()
            if time.monotonic() > deadline:
                raise TimeoutError
            return Answer(text, _time_of(response))

    def _headers(self, host: str) -> dict[str, str]:
        headers = {"Host": host, "Accept": "text/plain", "Connection": "close"}
        return headers | ({"Authorization": f"Bearer {self._token.reveal()}"} if self._token else {})

    def _check_pin(self, tls: ssl.SSLSocket) -> None:
        if self._pinned is None:
            return
        try:
            text = text_of(files.read(self._pinned).data)
            first = text[text.index("-----BEGIN CERTIFICATE") :].partition("-----END CERTIFICATE-----")
            expected = ssl.PEM_cert_to_DER_cert(f"{first[0]}{first[1]}")
        except OSError as error:
            raise Unreadable(
                f"the certificate {self._pinned} cannot be read ({error.strerror}): run this command as the server's "
                "user, or pass --url, --ca and --token-file"
            ) from None
        except (NotPlainText, ValueError):
            raise Unreadable(f"{self._pinned} holds no certificate in PEM: check TLS_CERT_PATH") from None
        shown = tls.getpeercert(binary_form=True) or b""
        if hashlib.sha256(shown).digest() != hashlib.sha256(expected).digest():
            raise Unreadable(
                f"the server there shows another certificate than {self._pinned}, so the token was not sent: send "
                "SIGHUP to the server if the file was renewed, and check TLS_CERT_PATH and SIGIL_PORT"
            )

    def _explained(self, response: http.client.HTTPResponse) -> Unreadable:
        status, pause = response.status, _pause(response.headers.get("Retry-After"))
        if status == 401:
            if self._token is None:
                return Unreadable(f"HTTP 401: {_MISSING}", pause)
            return Unreadable(f"HTTP 401: {_WRONG}", max(pause, _WRONG_TOKEN_SECONDS))
        texts = {
            404: "it has no /metrics: use the address of the server itself, not of a proxy, and check SIGIL_TELEMETRY",
            429: "too many wrong tokens came from this address: wait a minute, and check the token",
            503: "the server is starting, stopping or overloaded",
        }
        if 300 <= status < 400:
            return Unreadable(f"HTTP {status}: redirects are not followed: pass the URL to which it redirects")
        return Unreadable(f"HTTP {status}: {texts.get(status, 'no metrics; see the log of the server')}", pause)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _body(response: http.client.HTTPResponse) -> bytes:
    parts, size = [], 0
    while part := response.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > _MAX_BYTES:
            raise Unreadable(f"the answer is larger than {_MAX_BYTES >> 20} MiB: check that a Sigil server is there")
    return b"".join(parts)


def _pause(text: str | None) -> float:
    return min(_MAX_PAUSE, float(text)) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def _time_of(response: http.client.HTTPResponse) -> float:
    """By the Date of the answer: the clock of this host may differ."""
    try:
        return email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return time.time()
