"""`sigil health`: for people and for container health checks."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import httpx

from sigil.config import load_address

_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    text: str
    healthy: bool


def ask(url: str | None) -> Answer:
    """The server at `url`, whose certificate is verified; without one, this host's own, known by its certificate."""
    asked = url or ""
    try:
        verify: ssl.SSLContext | bool = True
        if url is None:
            asked, verify = _own_server()
        with httpx.Client(verify=verify, trust_env=False, timeout=_SECONDS) as client:
            answer = client.get(f"{asked.rstrip('/')}/health")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Answer(f"{asked or 'the server'}: {error}", healthy=False)
    return Answer(answer.text[:2000], answer.status_code == 200)


def _own_server() -> tuple[str, ssl.SSLContext | bool]:
    address = load_address(os.environ)
    host = f"[{address.host}]" if ":" in address.host else address.host
    if address.http_only:
        return f"http://{host}:{address.port}", True
    return f"https://{host}:{address.port}", _own_certificate(str(address.tls_cert))


def _own_certificate(path: str) -> ssl.SSLContext:
    """Trusts that one certificate whatever name it is for: a public one does not name 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(path)
    return context
