"""The webhook receiver: whether it can be reached, and, with a test event, what it responds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from sigil.app.services import webhook_sender
from sigil.config.webhooks import WebhookTarget
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.core.webhooks.delivery import AttemptResult
from sigil.serving.probes.http import NoAnswer, Phase, handshake
from sigil.serving.probes.public_address import certificate_problem
from sigil.serving.probes.service import OwnProbe
from sigil.webhooks.sample import sample

_NAME = "webhook"
_STEPS: dict[Phase, str] = {
    "name": "check that the receiver runs (a stopped container has no name), WEBHOOK_URL, and the DNS here",
    "connection": "check that the receiver runs, the port in WEBHOOK_URL, and firewalls between",
    "tls": "check http or https in WEBHOOK_URL, and the certificate of the receiver",
    "http": "check that WEBHOOK_URL is the address of the receiver",
}


def check(target: WebhookTarget | None, probe: OwnProbe, *, send_test: bool) -> Iterator[Result]:
    if target is None:
        yield ok(_NAME, "off: WEBHOOK_URL is not set")
        return
    url = target.url.reveal()
    parts = urlsplit(url)
    # Its path may contain a token.
    origin = f"{parts.scheme}://{parts.netloc}"
    if send_test:
        yield _response(origin, asyncio.run(_send(target)))
    else:
        context = ssl.create_default_context() if parts.scheme == "https" else None
        try:
            certificate = handshake(url, context)
        except NoAnswer as error:
            yield failed(_NAME, f"the receiver at {origin} cannot be reached: {error.reason}", _STEPS[error.phase])
        else:
            yield ok(_NAME, f"the receiver at {origin} can be reached; --send-test sends it a sample event")
            if problem := certificate_problem(certificate):
                yield still_open(_NAME, f"its certificate {problem}", "renew it at the receiver")
    if probe.metric("webhook_up") == 0:
        yield failed(
            _NAME, "the running server does not send: its circuit breaker of the receiver is open",
            "mend the receiver: the log event webhook_unreachable has the cause, and the server tries again by itself",
        )  # fmt: skip
    if given_up := probe.metric("webhook_failures"):
        yield still_open(
            _NAME, f"{given_up:.0f} events were given up",
            "`sigil webhook failures` lists them, `sigil webhook replay` sends them again",
        )  # fmt: skip


async def _send(target: WebhookTarget) -> AttemptResult:
    sender = webhook_sender(target.url, target.secrets)
    try:
        return await sender.post(*sample())
    finally:
        await sender.close()


def _response(origin: str, result: AttemptResult) -> Result:
    if result.outcome == "delivered":
        return ok(_NAME, f"the receiver at {origin} responded {result.status} to a signed sample event")
    if not result.status:
        return failed(_NAME, f"the receiver at {origin} did not respond: {result.reason}", _STEPS["connection"])
    if result.status in {401, 403}:
        step = "compare WEBHOOK_SECRET with the secret of the receiver, and its clock with this one"
    elif 300 <= result.status < 400:
        step = "set WEBHOOK_URL to the address to which it redirects: redirects are not followed"
    else:
        step = "the log of the receiver has the cause; it has to respond 2xx"
    return failed(_NAME, f"the receiver at {origin} responded {result.status} to a signed sample event", step)
