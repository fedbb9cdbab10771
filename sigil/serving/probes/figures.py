"""The metrics of a running service, read from its `/metrics`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

from sigil.serving.health_check import OwnService
from sigil.serving.probes.http import Answer, NoAnswer, get, unverified_context
from sigil.serving.settings import Secret

_MAX_BYTES = 4 * 1024 * 1024
_MAX_SAMPLES = 50_000
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^}]*)\})? ([0-9.eE+-]+|NaN|\+Inf)(?: |$)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class NoFigures(Exception):
    """Why there are none; `next_step` is the remedy."""

    def __init__(self, text: str, next_step: str) -> None:
        super().__init__(text)
        self.next_step = next_step


class Figures:
    """Samples by name."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for number, line in enumerate(text.splitlines()):
            found = _SAMPLE.match(line)
            if found and number < _MAX_SAMPLES:
                labels = dict(_LABEL.findall(found[2] or ""))
                self._samples.setdefault(found[1], []).append((labels, float(found[3])))

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with these labels; None if the service has no such metric."""
        found = [value for given, value in self._samples.get(name, []) if labels.items() <= given.items()]
        return sum(found) if found else None

    def by_label(self, name: str, label: str) -> Mapping[str, float]:
        return {given.get(label, ""): value for given, value in self._samples.get(name, [])}


def read_figures(service: OwnService, token: Secret | None) -> Figures:
    """Of this host's own server; NoFigures. The token goes to this host's own address alone."""
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    try:
        answer = own_answer(service, "/metrics", headers=headers, max_bytes=_MAX_BYTES)
    except NoAnswer as error:
        raise NoFigures(f"the running server has no figures ({error.reason})", service.next_step) from None
    if answer.status == 404:
        raise NoFigures("/metrics is off", "set …_TELEMETRY to full or minimal")
    if answer.status in {401, 403}:
        step = "run this with the METRICS_TOKEN of the server, on its host and in its container"
        raise NoFigures(f"/metrics answers {answer.status}", step)
    if answer.status != 200:
        raise NoFigures(f"/metrics answers {answer.status}", "try again in a minute")
    return Figures(answer.body.decode(errors="replace"))


def own_answer(
    service: OwnService, path: str, *, headers: Mapping[str, str] | None = None, max_bytes: int = 64 * 1024
) -> Answer:
    """NoAnswer. The certificate is not verified: it is this host's own."""
    context: ssl.SSLContext | None = unverified_context() if service.tls else None
    return get(service.origin + path, context, headers=headers, max_bytes=max_bytes)
