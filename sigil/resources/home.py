"""The server's own page: its identity, and its state in words.

Everyone may open it. It shows what everyone can find out anyway (decision 0042): which features are on, which `/info`
lists; whether the relay is reachable, whose own address is public; the dates of the certificate, which is in each
handshake. It has no address and no reason of an outage, and nothing about an outage of the webhook receiver.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from falcon.asgi import Request, Response

from sigil.resources.pages import send_page

_FRESH_SECONDS = 5.0


class Shown(NamedTuple):
    """A state in words; `state` is `good`, `bad` or `off`."""

    state: str
    text: str


RELAY_OFF = Shown("off", "Not used: devices fetch what is pending themselves")
RELAY_GOOD = Shown("good", "Used: pushes go to devices through it")
RELAY_BAD = Shown("bad", "Not reachable at the moment: devices fetch what is pending themselves")
WEBHOOKS_OFF = Shown("off", "Not used: backends fetch results themselves")
WEBHOOKS_ON = Shown("good", "Used: results are sent to the backend")
RELAY_UNKNOWN = Shown("bad", "Unknown: the server cannot use its session store")
CERTIFICATE_OF_PROXY = Shown("off", "That of the proxy in front of this server")
CERTIFICATE_UNKNOWN = Shown("off", "In use; its file cannot be read now")


class HomeResource:
    """`GET /`: rendered again after some seconds at the earliest, so that many requests cost no reads of the store.

    `render(values)` fills the page; `relay` and `certificate(now)` give their states, `now` in Unix seconds.
    """

    def __init__(
        self,
        render: Callable[[dict[str, str]], bytes],
        *,
        relay: Callable[[], Awaitable[Shown]],
        webhooks: Shown,
        certificate: Callable[[float], Shown],
        time_of_day: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._render = render
        self._relay = relay
        self._webhooks = webhooks
        self._certificate = certificate
        self._time_of_day = time_of_day
        self._monotonic = monotonic
        self._content = b""
        self._stale_at = float("-inf")

    async def on_get(self, _req: Request, resp: Response) -> None:
        if self._monotonic() >= self._stale_at:
            self._content = self._render(await self._values())
            self._stale_at = self._monotonic() + _FRESH_SECONDS
        send_page(resp, self._content)

    on_head = on_get

    async def _values(self) -> dict[str, str]:
        shown = {
            "relay": await self._relay(),
            "webhooks": self._webhooks,
            "certificate": self._certificate(self._time_of_day()),
        }
        texts = {name: state.text for name, state in shown.items()}
        return texts | {f"{name}_state": state.state for name, state in shown.items()}
