"""The credentials at APNs and FCM, by a request that each provider authenticates and that no device can get."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from relay.app.wiring import provider_transports
from relay.config import Config
from relay.registry.model import Platform
from relay.transports import Outcome, OutgoingPush, Transport
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.probes.http import NoAnswer, handshake
from sigil.serving.probes.service import OwnProbe

_SECONDS = 12.0
_NO_DEVICE: dict[Platform, str] = {"apns": "00", "fcm": "sigil-doctor"}
"""Texts that are no tokens: APNs and FCM reject them once they have accepted the credentials."""
_VARIABLES: dict[Platform, str] = {
    "apns": "APNS_KEY_PATH, APNS_KEY_ID, APNS_TEAM_ID and APNS_TOPIC, and APNS_ENVIRONMENT",
    "fcm": "FCM_SERVICE_ACCOUNT, and that its account may send messages in its project",
}
_ADDRESSES: dict[Platform, str] = {"apns": "APNS_URL", "fcm": "FCM_URL, the project_id of FCM_SERVICE_ACCOUNT"}
_CLOCK = "synchronise this host's clock (chrony, systemd-timesyncd), since the provider judges the age of what it signs"
_DENIED = {
    "ExpiredProviderToken": _CLOCK,
    "invalid_grant": f"correct {_VARIABLES['fcm']}, then send SIGHUP; or {_CLOCK}",
}
# Of the provider itself, and no text of the connection to it.
_CODE = re.compile(r"[A-Z]|http_")
# Unlike a push, a clear shows nothing on a phone.
_PAYLOAD = b'{"type":"clear"}'


def check(platform: Platform, config: Config, probe: OwnProbe) -> Iterator[Result]:
    name = f"provider_{platform}"
    if platform not in config.providers:
        yield ok(name, "no credentials: RELAY_PUSH_CONSOLE prints its pushes" if config.push_console else "off")
        return
    outcome = asyncio.run(_attempt(provider_transports(config, time.time)[platform], platform))
    if outcome is not None and outcome.kind == "denied":
        step = _DENIED.get(outcome.error or "", f"correct {_VARIABLES[platform]}; then send SIGHUP")
        yield failed(name, f"the provider rejects the credentials: {outcome.error}", step)
    elif outcome is None or outcome.kind == "retry" or outcome.local:
        yield _unavailable(name, outcome.error if outcome else None, _unreachable(platform, config))
    elif outcome.kind == "delivered" or (outcome.error or "").startswith("http_") or outcome.error == "NOT_FOUND":
        yield failed(
            name, f"what answers as the provider responds to an invalid token with {outcome.error or 'success'}",
            f"check {_ADDRESSES[platform]}, and proxies between",
        )  # fmt: skip
    else:
        yield ok(name, f"the provider accepts the credentials (an invalid token got {outcome.error or 'no error'})")
        if probe.metric("provider_credentials_refused", provider=platform):
            yield still_open(
                name, "the running relay still has credentials that the provider rejected",
                "send SIGHUP; it also tries again by itself once a minute when there is a push",
            )  # fmt: skip


def _unavailable(name: str, error: str | None, unreachable: str | None) -> Result:
    if unreachable is None and error == "token_unavailable":
        step = "check FCM_TOKEN_URL, if it is set, and Google's status page; the relay tries again by itself"
        return failed(name, "Google gives no access token", step)
    if unreachable is None and error and _CODE.match(error):
        step = "see its status page and its limits; the relay tries again by itself"
        return failed(name, f"the provider answers {error} for now", step)
    reason = unreachable or error or f"no answer within {_SECONDS:.0f} s"
    step = "check DNS and firewalls to it, and its status page"
    return failed(name, f"the provider does not answer: {reason}", step)


def _unreachable(platform: Platform, config: Config) -> str | None:
    """The origin that cannot be reached, and why; None if all can be."""
    fcm = config.fcm
    urls = [config.apns.url] if platform == "apns" and config.apns else [fcm.token_url, fcm.url] if fcm else []
    for url in urls:
        try:
            handshake(url, ssl.create_default_context())
        except NoAnswer as error:
            return f"{urlsplit(url).netloc}: {error.reason}"
    return None


async def _attempt(transport: Transport, platform: Platform) -> Outcome | None:
    push = OutgoingPush(
        push_id=os.urandom(16).hex(),
        fingerprint="0" * 64,
        token=_NO_DEVICE[platform],
        payload=_PAYLOAD,
        expires_at=int(time.time()),
        collapse_id=None,
        priority="normal",
        dry_run=True,
    )
    transport.open()
    try:
        async with asyncio.timeout(_SECONDS):
            return await transport.send(push)
    except TimeoutError:
        return None
    finally:
        await transport.close()
