"""OTLP over HTTP: one POST of protobuf for each batch, on a connection that is kept.

Not the exporter of the SDK: it bounds neither the time of a request as a whole nor the bytes of an answer, it takes a
proxy from the environment, and it tells the reason of a failure to its own log alone (docs/decisions/0046).
"""

from __future__ import annotations

import errno
import gzip
import http.client
import os
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from sigil.serving.tracing.outage import ExportFailed
from sigil.serving.tracing.partial_success import rejected_spans
from sigil.serving.tracing.settings import TracingSettings

MAX_ANSWER = 64 * 1024
"""Bytes that are read of an answer; the connection of a longer one is closed."""
_RETRIED = frozenset({429, 502, 503, 504})
_MAX_RETRY_AFTER = 60.0


class HttpExport:
    def __init__(self, settings: TracingSettings, user_agent: str) -> None:
        parts = urlsplit(settings.endpoint)
        tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if tls else 80)
        self._path = parts.path or "/"
        self._gzip = settings.compression == "gzip"
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": user_agent}
        if self._gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._secret_headers = settings.headers
        # Reading the system's certificates is slow: it happens here, not at the first export.
        self._tls = _context(settings.certificate) if tls else None
        self._connection: http.client.HTTPConnection | None = None

    def send(self, data: bytes, seconds: float) -> None:
        """ExportFailed, within `seconds` plus the time of a name's resolution."""
        deadline = time.monotonic() + seconds
        body = gzip.compress(data, 6) if self._gzip else data
        kept = self._connection is not None
        try:
            status, answer, retry_after = self._post(body, deadline)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            if not kept or time.monotonic() >= deadline:
                raise _failed(error, deadline) from None
            # The collector had closed the kept connection.
            try:
                status, answer, retry_after = self._post(body, deadline)
            except (OSError, http.client.HTTPException) as again:
                self._close()
                raise _failed(again, deadline) from None
        _check(status, answer, retry_after)

    def close(self) -> None:
        self._close()

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes, str]:
        connection = self._connection or http.client.HTTPConnection(self._host, self._port)
        # From now on, so that a failure closes it.
        self._connection = connection
        # A time-out of a socket bounds one wait alone: an answer of one byte a second would never end.
        with _Deadline(connection, deadline):
            if connection.sock is None:
                self._connect(connection, deadline)
            connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
            connection.putrequest("POST", self._path)
            for name, value in self._headers.items():
                connection.putheader(name, value)
            for name, secret in self._secret_headers:
                connection.putheader(name, secret.reveal())
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER + 1)
            if len(answer) > MAX_ANSWER or not response.isclosed():
                # It may have taken the socket over.
                response.close()
                self._close()
            return response.status, answer, response.getheader("Retry-After") or ""

    def _connect(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        plain = _dialled(self._host, self._port, deadline)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = plain
        if self._tls is not None:
            secured = self._tls.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
            connection.sock = secured
            secured.do_handshake()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _dialled(host: str, port: int, deadline: float) -> socket.socket:
    """To the first address that answers, the deadline for all of them: `socket.create_connection` bounds each alone."""
    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(max(0.01, deadline - time.monotonic()))
            found.connect(address)
        except OSError as error:
            found.close()
            failed = error
        else:
            return found
        if time.monotonic() >= deadline:
            break
    raise failed or TimeoutError


class _Deadline:
    """Ends the connection at the deadline; a blocked read then returns."""

    def __init__(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        self._connection = connection
        self._timer = threading.Timer(max(0.01, deadline - time.monotonic()), self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        try:
            if self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _context(certificate: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate.decode() or None)


def _check(status: int, answer: bytes, retry_after: str) -> None:
    if 200 <= status < 300:
        if rejected := rejected_spans(answer[:MAX_ANSWER]):
            raise ExportFailed("the collector rejects spans", retry=False, rejected=rejected)
        return
    if 300 <= status < 400:
        raise ExportFailed(f"a redirect ({status}), which is not followed", retry=False)
    after = float(retry_after[:6]) if retry_after.isascii() and retry_after.isdigit() else 0.0
    raise ExportFailed(f"status {status}", retry=status in _RETRIED, after=min(after, _MAX_RETRY_AFTER))


def _failed(error: Exception, deadline: float) -> ExportFailed:
    # Only the type and the errno: the text of an exception may quote anything.
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"a certificate that is not trusted ({error.verify_message})"
    elif isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        reason = "no answer in time"
    elif isinstance(error, ssl.SSLError):
        reason = "no TLS"
    elif isinstance(error, socket.gaierror):
        reason = "a name that is not known"
    elif isinstance(error, http.client.RemoteDisconnected) or getattr(error, "errno", None) == errno.ECONNRESET:
        reason = "closed without an answer"
    elif isinstance(error, http.client.HTTPException):
        reason = "an answer that is not HTTP"
    else:
        number = error.errno if isinstance(error, OSError) else None
        reason = f"no connection ({os.strerror(number) if number else type(error).__name__})"
    return ExportFailed(reason, retry=True)
