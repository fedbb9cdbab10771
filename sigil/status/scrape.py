"""GET /metrics of a server, bounded in bytes and time. No proxy, no redirect."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sigil.config.own_metrics import own_metrics, token_in
from sigil.protocol.encoding.plain_text import NotPlainText, text_of
from sigil.serving import settings
from sigil.serving.bounded import files
from sigil.serving.probes import http
from sigil.serving.probes.pinned import pinned_context
from sigil.serving.settings import ConfigError, Secret

_MAX_BYTES = 4 << 20
# Of the ten wrong tokens a minute, readers on the same host, such as Prometheus, keep eight.
_WRONG_TOKEN_SECONDS = 30.0
_MAX_PAUSE = 300.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_CHECK = "check the URL, and that the server runs"
_SIGHUP = "send SIGHUP to the server if that file was renewed, and check TLS_CERT_PATH and SIGIL_PORT"
_MISSING = "it requires METRICS_TOKEN, which this command lacks: set METRICS_TOKEN_FILE, or use --url with --token-file"
_WRONG = "it does not accept this token: use that of METRICS_TOKEN of the running server"
_REASONS = {
    404: "it has no /metrics: use the address of the server itself, not of a proxy, and check SIGIL_TELEMETRY",
    429: "too many wrong tokens came from this address: wait a minute, and check the token",
    503: "the server is starting, stopping or overloaded",
}


class Unreadable(Exception):
    """Its text says why there are no figures, and what to do. `pause` is how long to wait before the next attempt."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Exposition(NamedTuple):
    """`now` is the time of day of the server, in Unix seconds."""

    text: str
    now: float


class Source:
    """The metrics of the server at `base`; `context` gives the settings of TLS, and raises Unreadable."""

    def __init__(
        self, base: str, token: Secret | None, context: Callable[[], ssl.SSLContext], *, rejected: str, next_step: str
    ) -> None:
        self.base = base
        self._token = token
        self._context = context
        self._rejected = rejected
        self._next_step = next_step

    @classmethod
    def of_settings(cls, environ: Mapping[str, str]) -> Source:
        """This host's server, whose certificate need not name this address; ConfigError."""
        service, token, certificate = own_metrics(environ)

        def context() -> ssl.SSLContext:
            # The token goes to the holder of the certificate alone: while the server is down, another user's program
            # may listen on its port.
            return _pinned_context(certificate) if token else http.unverified_context()

        rejected = f"it is not that of {certificate}, so no token was sent: {_SIGHUP}"
        return cls(service.origin, token, context, rejected=rejected, next_step=service.next_step)

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
        rejected = "pass --ca FILE with the certificate that signs it, and use a host that it names"
        return cls(base, token, lambda: _verifying_context(ca), rejected=rejected, next_step=_CHECK)

    def read(self) -> Exposition:
        """Unreadable."""
        headers = {"Accept": "text/plain"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        context = self._context() if self.base.startswith("https:") else None
        try:
            answer = http.get(f"{self.base}/metrics", context, headers=headers, max_bytes=_MAX_BYTES)
        except http.NoAnswer as error:
            certificate = error.phase == "tls" and "certificate" in error.reason
            raise Unreadable(f"{error.reason}; {self._rejected if certificate else self._next_step}") from None
        if answer.status != 200:
            raise self._explained(answer)
        if answer.length is None or answer.length > _MAX_BYTES:
            raise Unreadable(f"the answer has no length, or over {_MAX_BYTES >> 20} MiB: use the server's own address")
        if len(answer.body) < answer.length:
            raise Unreadable("the answer ended early: the log of the server may say why")
        return Exposition(answer.body.decode(errors="replace"), answer.date or time.time())

    def _explained(self, answer: http.Answer) -> Unreadable:
        status, pause = answer.status, _pause(answer.headers.get("retry-after", ""))
        if status == 401:
            text = _WRONG if self._token else _MISSING
            return Unreadable(f"HTTP 401: {text}", max(pause, _WRONG_TOKEN_SECONDS if self._token else 0.0))
        if 300 <= status < 400:
            return Unreadable(f"HTTP {status}: redirects are not followed: pass the URL to which it redirects")
        return Unreadable(f"HTTP {status}: {_REASONS.get(status, 'no metrics; see the log of the server')}", pause)


def _pause(text: str) -> float:
    return min(_MAX_PAUSE, float(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def _pinned_context(path: Path) -> ssl.SSLContext:
    """Accepts the first certificate of the file, and no other: also none of the same authority."""
    try:
        text = text_of(files.read(path).data)
    except OSError as error:
        raise Unreadable(
            f"the certificate {path} cannot be read ({error.strerror}), and the token goes to its holder alone: run "
            "this command as the server's user, or pass --url, --ca and --token-file"
        ) from None
    except NotPlainText as error:
        raise Unreadable(f"{path} {error}") from None
    try:
        return pinned_context(text)
    except (ssl.SSLError, TypeError):
        # TypeError: not ASCII.
        raise Unreadable(f"{path} holds no certificate in PEM: check TLS_CERT_PATH") from None


def _verifying_context(ca: str | None) -> ssl.SSLContext:
    if ca is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        return context
    try:
        text = text_of(files.read(Path(ca)).data)
    except OSError as error:
        raise Unreadable(f"--ca {ca}: {error.strerror}") from None
    except NotPlainText as error:
        raise Unreadable(f"--ca {ca} {error}") from None
    return _context_for(text, f"--ca {ca}: holds no certificate in PEM")


def _context_for(pem: str, fault: str) -> ssl.SSLContext:
    # Not create_default_context: from Python 3.13 it refuses self-signed certificates without key identifiers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, TypeError):
        # TypeError: not ASCII.
        raise Unreadable(fault) from None
    # The file may hold the server's own certificate rather than an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
