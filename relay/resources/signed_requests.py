"""Authentication of signed requests of servers, over HTTP: the cheapest check first, and failures are charged.

2 MiB of a request cost a worker 5 ms, before its signature can be verified.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager

from falcon.asgi import Request

from relay.pushes.server_shares import ServerShares
from relay.registration.rejections import RejectionLog
from relay.registration.servers import Servers, SignedHead
from sigil.protocol.errors import RateLimited, Unauthorized
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.rate_limits import AddressRateLimit, Charged
from sigil.serving.http.requests import discard_body, read_body

_MAX_PROVEN = 4096
# Reading and verifying this much takes hardly longer than to answer 429.
_SMALL_BODY = 64 * 1024


class SignedRequests:
    """`failures` limits the failed requests of an address.

    An unauthenticated client behind the same proxy or NAT cannot keep a known server out: the limit does not apply to a
    server from an address from which its signature verified before. Until then it does not apply to its small requests,
    such as its registration; an attacker may write the id of that server into its own.
    """

    def __init__(
        self,
        servers: Servers,
        shares: ServerShares,
        failures: AddressRateLimit,
        addresses: ClientAddresses,
        rejections: RejectionLog,
    ) -> None:
        self._servers = servers
        self._shares = shares
        self._failures = failures
        self._addresses = addresses
        self._rejections = rejections
        self._proven: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def authenticate(self, req: Request, limit: int) -> tuple[bytes, bytes]:
        """The server_id and the body of at most `limit` bytes. RateLimited, Unauthorized, then the errors of the
        body."""
        head = signed_head(req)
        with self.observing(req, head), self._failures.charging(req) as charged:
            await self.check(req, head, charged)
            try:
                key = await self._servers.expect(head)
            except Unauthorized:
                await discard_body(req)
                raise
            body = await read_body(req, limit)
            server_id = self._servers.verify(key, head, body)
            async with self._shares.slot(server_id):
                await self._servers.use_nonce(server_id, head)
        self.verified(req, head)
        return server_id, body

    def observing(self, req: Request, head: SignedHead) -> AbstractContextManager[None]:
        """Records a rejection of the request in the log and the metric."""
        return self._rejections.observing(
            head.server_id, self._addresses.of(req), lambda: self._servers.is_cached(head)
        )

    async def check(self, req: Request, head: SignedHead, charged: Charged) -> None:
        """RateLimited while the address is over its limit."""
        try:
            charged.check()
        except RateLimited:
            if (head.server_id, self._addresses.of(req)) in self._proven:
                return
            size = req.content_length
            if size is None or size > _SMALL_BODY or not await self._servers.names_known_server(head):
                raise

    def verified(self, req: Request, head: SignedHead) -> None:
        """The signature of this server verified."""
        proven = head.server_id, self._addresses.of(req)
        self._proven[proven] = None
        self._proven.move_to_end(proven)
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)


def signed_head(req: Request) -> SignedHead:
    """The request as its server signed it: the target is that of the request line."""
    query = req.scope["query_string"]
    target = req.scope["raw_path"] + (b"?" + query if query else b"")
    return SignedHead(
        method=req.method,
        target=target.decode("latin-1"),
        server_id=req.get_header("X-SIGIL-SERVER-ID") or "",
        timestamp=req.get_header("X-SIGIL-TIMESTAMP") or "",
        nonce=req.get_header("X-SIGIL-NONCE") or "",
        signature=req.get_header("X-SIGIL-REQUEST-SIGNATURE") or "",
    )
