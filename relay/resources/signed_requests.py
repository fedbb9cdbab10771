"""Authentication of signed requests of servers, over HTTP: the cheapest check first, and failures are charged.

2 MiB of a request cost a worker 5 ms, before its signature can be verified.
"""

from __future__ import annotations

from collections import OrderedDict

from falcon.asgi import Request

from relay.pushes.server_shares import ServerShares
from relay.registration.servers import Servers, SignedHead
from sigil.protocol.errors import Unauthorized
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import discard_body, read_body

_MAX_PROVEN = 4096


class SignedRequests:
    """`failures` limits the failed requests of an address.

    The limit does not apply to a server from an address from which its signature verified before: an unauthenticated
    client behind the same proxy cannot keep that server out.
    """

    def __init__(
        self, servers: Servers, shares: ServerShares, failures: AddressRateLimit, addresses: ClientAddresses
    ) -> None:
        self._servers = servers
        self._shares = shares
        self._failures = failures
        self._addresses = addresses
        self._proven: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def authenticate(self, req: Request, limit: int) -> tuple[bytes, bytes]:
        """The server_id and the body of at most `limit` bytes. RateLimited, Unauthorized, then the errors of the
        body."""
        head = signed_head(req)
        proven = head.server_id, self._addresses.of(req)
        with self._failures.charging(req) as charged:
            if proven not in self._proven:
                charged.check()
            try:
                key = await self._servers.expect(head)
            except Unauthorized:
                await discard_body(req)
                raise
            body = await read_body(req, limit)
            server_id = self._servers.verify(key, head, body)
            async with self._shares.slot(server_id):
                await self._servers.use_nonce(server_id, head)
        self._proven[proven] = None
        self._proven.move_to_end(proven)
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)
        return server_id, body


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
