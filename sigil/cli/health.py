"""`sigil health`: for operators and for container health checks."""

from __future__ import annotations

import os
from dataclasses import dataclass

import httpx

from sigil.config.settings import load_address

_SECONDS = 5.0


@dataclass(frozen=True)
class Health:
    text: str
    healthy: bool


def query(url: str | None) -> Health:
    """The health of the server at `url`, whose certificate is verified. Without `url`, of this host's own server, whose
    certificate is not verified.

    A renewed certificate that waits for its SIGHUP would make a healthy server fail the check, and have its container
    killed. The request and the response hold nothing secret, and stay on this host.
    """
    base = _own_server() if url is None else url
    try:
        with httpx.Client(verify=url is not None, trust_env=False, timeout=_SECONDS) as client:
            response = client.get(f"{base.rstrip('/')}/health")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Health(f"{base}: {error}", healthy=False)
    return Health(response.text[:2000], response.status_code == 200)


def _own_server() -> str:
    address = load_address(os.environ)
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http{'' if address.http_only else 's'}://{host}:{address.port}"
