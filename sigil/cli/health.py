"""`sigil health`: for people and for container health checks."""

from __future__ import annotations

import os
from dataclasses import dataclass

import httpx

from sigil.config.settings import load_address

_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    text: str
    healthy: bool


def ask(url: str | None) -> Answer:
    """The server at `url`, whose certificate is verified; without one, this host's own, whose is not.

    A certificate that was renewed and waits for its SIGHUP would make a healthy server ill, and have it killed. Nothing
    secret is asked here, and the host that answers is the one that asks.
    """
    asked = _own_server() if url is None else url
    try:
        with httpx.Client(verify=url is not None, trust_env=False, timeout=_SECONDS) as client:
            answer = client.get(f"{asked.rstrip('/')}/health")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Answer(f"{asked}: {error}", healthy=False)
    return Answer(answer.text[:2000], answer.status_code == 200)


def _own_server() -> str:
    address = load_address(os.environ)
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http{'' if address.http_only else 's'}://{host}:{address.port}"
