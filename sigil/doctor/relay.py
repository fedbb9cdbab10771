"""The relay: whether this server reaches it, whether both clocks agree, and whether the relay trusts this server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sigil.app.identity import identity_of
from sigil.app.services import relay_client
from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.doctor.clock import SIGNATURE_SECONDS, clock_result, offset_of
from sigil.pushes.service import RelayRejected, RelayUnavailable
from sigil.serving.probes.http import Answer, NoAnswer, Phase, get
from sigil.serving.probes.public_address import certificate_problem
from sigil.serving.probes.service import OwnProbe, json_object
from sigil.serving.startup_error import StartupError

if TYPE_CHECKING:
    from sigil.protocol.identity import ServerIdentity

_STEPS: dict[Phase, str] = {
    "name": "check that the relay runs (a stopped container has no name), RELAY_URL, and the DNS of this host",
    "connection": "check that the relay runs, its port in RELAY_URL, and firewalls between",
    "tls": "check http or https and the port in RELAY_URL, and the certificate of the relay or of its proxy",
    "http": "check that RELAY_URL is the address of a relay, and the log of its proxy",
}

_IDENTITY = "see the finding permissions: the server's user can read the identity of the server"

_PHASES: dict[Phase, str] = {
    "name": "its name",
    "connection": "no connection",
    "tls": "no TLS",
    "http": "no HTTP answer",
}


def check(config: Config, probe: OwnProbe) -> Iterator[Result]:
    """`relay`, `clock`, `registry`, `relay_trust`."""
    url = config.relay_url
    if not url:
        yield still_open("relay", "RELAY_URL is empty: no pushes are sent", "set it, unless devices poll")
        yield clock_result(None)
        return
    try:
        answer = get(f"{url}/health", _context(url))
    except NoAnswer as error:
        yield failed(
            "relay", f"{url} cannot be used, {_PHASES[error.phase]}: {error.reason}", _STEPS[error.phase]
        )  # fmt: skip
        yield clock_result(None)
        return
    offset = offset_of(answer)
    yield clock_result(offset)
    yield from _of_health(url, answer)
    if probe.metric("relay_up") == 0:
        yield failed(
            "relay", "the running server does not send: its circuit breaker of the relay is open",
            "see relay_trust and clock, then the log event relay_unreachable; it tries again by itself",
        )  # fmt: skip
    yield from _trust(config, offset, probe)


def _of_health(url: str, answer: Answer) -> Iterator[Result]:
    members = json_object(answer.body)
    status = members.get("status")
    if 300 <= answer.status < 400:
        step = "set RELAY_URL to the address to which it redirects"
        yield failed("relay", f"{url} redirects ({answer.status}), and no push follows", step)
    elif status == "unhealthy":
        details = members.get("details")
        reason = details.get("reason") if isinstance(details, dict) else None
        yield ok("relay", f"{url} answers")
        yield failed("registry", f"the relay is unhealthy: {reason}", "run `sigil-relay doctor` on its host")
    elif "mode" in members:
        step = "set RELAY_URL to the address of the relay"
        yield failed("relay", f"{url} is the address of a Sigil server, and of no relay", step)
    elif answer.status != 200 or status != "healthy":
        yield failed("relay", f"{url} answers {answer.status}, and without the health of a relay", _STEPS["http"])
    else:
        took = max(0.0, answer.received - answer.sent) * 1000
        yield ok("relay", f"{url} answers in {took:.0f} ms, version {members.get('version', 'unknown')}")
        yield ok("registry", "the relay reaches its database")
        if problem := certificate_problem(answer.certificate):
            yield still_open("relay", f"its certificate {problem}", "renew it at the relay, or its proxy")


def _trust(config: Config, offset: float | None, probe: OwnProbe) -> Iterator[Result]:
    name = "relay_trust"
    try:
        identity = identity_of(config)
    except StartupError as error:
        yield failed(name, str(error), _IDENTITY)
        return
    if identity is None:
        return
    try:
        trusted = asyncio.run(_is_trusted(config, identity))
    except (RelayUnavailable, RelayRejected) as error:
        yield failed(name, f"a signed request was not answered as by a relay: {error}", _STEPS["http"])
        return
    if trusted:
        yield ok(name, f"the relay accepts the signature of server_id {identity.server_id}")
    elif offset is not None and abs(offset) > SIGNATURE_SECONDS:
        yield failed(name, "the relay rejects signed requests, as the clocks differ too much", "see the finding clock")
    elif (running := probe.server_id()) and running != identity.server_id:
        # Otherwise an operator would have the relay trust an identity that no server has.
        text = f"this command has the identity {identity.server_id}, and the running server {running}"
        yield failed(name, text, "run it with the settings of the server, above all its mnemonic")
    else:
        yield failed(
            name, f"the relay does not accept the signature of server_id {identity.server_id}",
            f"at the relay run `sigil-relay servers trust {identity.server_id}`; its log has the reason "
            "(server_request_rejected)",
        )  # fmt: skip


async def _is_trusted(config: Config, identity: ServerIdentity) -> bool:
    client = relay_client(config, identity)
    try:
        return await client.is_trusted()
    finally:
        await client.close()


def _context(url: str) -> ssl.SSLContext | None:
    """As the server verifies it."""
    return ssl.create_default_context() if url.startswith("https:") else None
