"""Web Push: its contact, and whether this host reaches the push services of the list. No request is sent to them:
without a subscription, none of them examines the relay's token.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

from relay.app.wiring import push_service_pools
from relay.config import Config
from relay.web_push_settings import Host
from sigil.console.findings.result import Result, failed, ok, still_open

_NAME = "provider_webpush"
_SECONDS = 10.0


def check(config: Config) -> Iterator[Result]:
    webpush = config.webpush
    if webpush is None:
        yield ok(_NAME, "off")
        return
    if webpush.contact is None:
        yield still_open(
            _NAME, "RELAY_WEBPUSH_CONTACT is not set: Apple's push service refuses all pushes",
            "set it to mailto:you@your-domain, then send SIGHUP",
        )  # fmt: skip
    named = [host for host in webpush.hosts if not host.wildcard]
    unreachable = asyncio.run(_unreachable(named))
    for host, reason in unreachable:
        text = f"{host} cannot be reached: {reason}"
        step = "check DNS and firewalls to it, port 443; or take it off RELAY_WEBPUSH_HOSTS"
        yield failed(_NAME, text, step) if len(unreachable) == len(named) else still_open(_NAME, text, step)
    if len(unreachable) < len(named) or not named:
        keys = ", ".join(key.public_text for key in webpush.keys)
        reached = f"{len(named) - len(unreachable)} of {len(named)} push services are reachable"
        yield ok(_NAME, f"{reached}; public key {keys}")


async def _unreachable(named: list[Host]) -> list[tuple[Host, str]]:
    pools = push_service_pools()

    async def reason(host: Host) -> str | None:
        try:
            async with asyncio.timeout(_SECONDS):
                connection = await pools.connect(host, host.name)
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
        except TimeoutError:
            return "no answer in time"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        connection.abort("closed")
        # Its socket closes in a later iteration of the loop, which ends after this.
        await asyncio.sleep(0.05)
        return None

    try:
        reasons = await asyncio.gather(*map(reason, named))
    finally:
        await pools.close()
    return [(host, found) for host, found in zip(named, reasons, strict=True) if found is not None]
