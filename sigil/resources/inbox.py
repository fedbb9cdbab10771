"""The pending challenges and approval requests of a device, over HTTP."""

from __future__ import annotations

from falcon.asgi import Request, Response

from sigil.inbox import Inbox
from sigil.protocol.errors import InvalidSignature
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
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            request = decode_json(req, body, Pending)
            pending = await self._inbox.pending(request)
            # Any key of the client's own gets here. The nonce of a device without pending challenges is in this memory
            # alone: an unauthenticated client never causes a write.
            idle = not (pending.challenges or pending.mpa)
            if idle and not charged.idle(request.device_public_key, request.timestamp):
                raise InvalidSignature
        write_json(resp, pending)
