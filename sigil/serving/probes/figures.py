"""The metrics of a running service, read from its `/metrics`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from sigil.serving.health_check import OwnService
from sigil.serving.probes.exposition import parse
from sigil.serving.probes.http import Answer, NoAnswer, get, unverified_context
from sigil.serving.probes.pinned import pinned_context
from sigil.serving.settings import Secret
from sigil.serving.tls.validity import first_certificate

_MAX_BYTES = 4 * 1024 * 1024


class NoFigures(Exception):
    """Why there are none; `next_step` is the remedy."""

    def __init__(self, text: str, next_step: str) -> None:
        super().__init__(text)
        self.next_step = next_step


class Figures:
    """Samples by name."""

    def __init__(self, text: str) -> None:
        self._samples = parse(text)

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with these labels; None if the service has no such metric."""
        found = [one.value for one in self._samples.get(name, []) if labels.items() <= one.labels.items()]
        return sum(found) if found else None

    def by_label(self, name: str, label: str) -> Mapping[str, float]:
        return {one.labels.get(label, ""): one.value for one in self._samples.get(name, [])}


def read_figures(service: OwnService, token: Secret | None, certificate: Path | None) -> Figures:
    """Of this host's own server; NoFigures. Over TLS the token goes to the holder of `certificate` alone."""
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    try:
        context = _context(service, certificate if token else None)
        answer = get(f"{service.origin}/metrics", context, headers=headers, max_bytes=_MAX_BYTES)
    except NoAnswer as error:
        if error.phase == "tls" and "certificate" in error.reason:
            text = f"/metrics was not read: its server does not show the certificate of {certificate}"
            raise NoFigures(text, "send SIGHUP if that file was renewed (`make reload`)") from None
        raise NoFigures(f"/metrics was not read ({error.reason})", service.next_step) from None
    if answer.status == 404:
        raise NoFigures("/metrics is off", "set …_TELEMETRY to full or minimal")
    if answer.status in {401, 403}:
        step = "run this with the METRICS_TOKEN of the server, on its host and in its container"
        raise NoFigures(f"/metrics answers {answer.status}", step)
    if answer.status != 200:
        raise NoFigures(f"/metrics answers {answer.status}", "try again in a minute")
    return Figures(answer.body.decode(errors="replace"))


def read_public(service: OwnService, path: str) -> Answer:
    """NoAnswer. The certificate is examined, and not verified."""
    return get(f"{service.origin}{path}", _context(service, None))


def _context(service: OwnService, pinned: Path | None) -> ssl.SSLContext | None:
    """NoFigures when the file to pin is no certificate."""
    if not service.tls:
        return None
    if pinned is None:
        return unverified_context()
    certificate = first_certificate(pinned)
    if certificate is None:
        text = f"/metrics was not read: {pinned} holds no certificate that this user can read"
        raise NoFigures(text, "run this as the server's user; the token goes to the holder of that certificate alone")
    return pinned_context(certificate.public_bytes(Encoding.PEM).decode())
