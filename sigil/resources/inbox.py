"""The pending challenges and approval requests of a device, over HTTP."""

from __future__ import annotations

from falcon.asgi import Request, Response

from sigil.inbox import Inbox
from sigil.protocol.messages.challenges import Pending
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body
from sigil.serving.http.responses import write_json


class PendingResource:
    """`POST /device/pending`"""

    def __init__(self, inbox: Inbox, rate_limit: AddressRateLimit) -> None:
        self._inbox = inbox
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging_failures(req) as charged:
            body = await read_body(req)
            charged.check()
            pending = await self._inbox.pending(decode_json(req, body, Pending))
        write_json(resp, pending)
