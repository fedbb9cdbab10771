"""The client address of a request, directly or through trusted proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import falcon.asgi

from sigil.serving import logs
from sigil.serving.addresses.proxies import Proxies

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Iterable[tuple[bytes, bytes]]

# Some proxies append the client's port. If it were not removed, all clients of such a proxy would count as one.
_WITH_PORT = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+)|\[([0-9a-f:.]+)\])(?::\d{1,5})?\Z", re.ASCII | re.IGNORECASE)
# A longer chain is a client's invention: 3000 entries that are all trusted took 15 ms of a worker.
_MAX_HOPS = 16
# Headers by which a proxy shows itself.
_FORWARDING = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
_FORWARDED_FOR, _CONNECTING_IP = b"x-forwarded-for", b"cf-connecting-ip"
# The last two are other ways to name a client, which this server does not read.
_NAMING = frozenset({_FORWARDED_FOR, _CONNECTING_IP, b"forwarded", b"x-real-ip"})
AddressEvent = Literal["untrusted_proxy_header", "trusted_client"]
_UNTRUSTED: AddressEvent = "untrusted_proxy_header"
_SHARED: AddressEvent = "trusted_client"
_LOCAL_HOST = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d{1,5})?\Z", re.ASCII | re.IGNORECASE)


class _Hop(NamedTuple):
    """One address of the chain from the peer to the client; `key` is its name for limits."""

    key: str
    address: Address | None
    is_own: bool
    is_cloudflare: bool


class ClientAddresses:
    """The client of a request, as the key of limits: an IPv4 address, or the /64 network of an IPv6 address.

    The chain of hops is the peer, and then X-Forwarded-For from the right. The client is the first hop that is neither
    a proxy of the `trusted` ranges nor of `cloudflare`; entries further left come from the client, which may write
    anything there. With `connecting_ip`, a Cloudflare hop names the client in CF-Connecting-IP. From any other hop that
    header is ignored: a client that reaches the proxy behind Cloudflare directly writes it itself.

    `warn` takes the log event and the peer, once for each event; `seen` the event, at each request.
    """

    def __init__(
        self,
        trusted: Sequence[Network] = (),
        *,
        cloudflare: Sequence[Network] = (),
        connecting_ip: bool = False,
        warn: Callable[[str, str], None] | None = None,
    ) -> None:
        self._own = tuple(trusted)
        self._cloudflare = tuple(cloudflare)
        self._connecting_ip = connecting_ip
        self._warn = warn or _log_warning
        self.seen: Callable[[AddressEvent], object] = lambda event: None
        self._warned: set[str] = set()
        # Only of peers, whose addresses the kernel gives: a cache of header values would hold what clients write.
        self._peer = lru_cache(maxsize=4096)(self._hop_of_peer)

    @classmethod
    def behind(cls, proxies: Proxies) -> ClientAddresses:
        return cls(proxies.own, cloudflare=proxies.cloudflare, connecting_ip=proxies.connecting_ip)

    def of(self, req: falcon.asgi.Request) -> str:
        # The edge has found it for the limits of bodies.
        known: str | None = req.scope.get("sigil.address")
        return self.of_peer(peer_of(req), req.scope["headers"]) if known is None else known

    def of_peer(self, peer: str, headers: Headers) -> str:
        """Like `of`, without Falcon; header names are in lower case, and one header may come in several lines."""
        hop = self._peer(peer)
        found = [line for line in headers if line[0] in _NAMING]
        if not (hop.is_own or hop.is_cloudflare):
            if found and any(name != _CONNECTING_IP or self._connecting_ip for name, _ in found):
                self._report(_UNTRUSTED, peer)
            return hop.key
        forwarded = [value for name, value in found if name == _FORWARDED_FOR]
        connecting = [value for name, value in found if name == _CONNECTING_IP] if self._connecting_ip else []
        client = self._client(hop, forwarded, connecting)
        if client is hop or client.is_own:
            self._warn_of_shared_limit(client, headers, named=client is not hop)
        return client.key

    def _warn_of_shared_limit(self, client: _Hop, headers: Headers, *, named: bool) -> None:
        """`named`: the header of a proxy names this client."""
        # On loopback these are the tools of this host, such as its health check, unless a proxy shows itself.
        shown = named or not any(name in _FORWARDING for name, _ in headers)
        if client.address and client.address.is_loopback and shown:
            return
        self._report(_SHARED, client.key)

    def of_connection(self, peer: str) -> str | None:
        """For a connection without a request yet; None for a trusted proxy, whose connections carry many clients."""
        hop = self._peer(peer)
        return None if hop.is_own or hop.is_cloudflare else hop.key

    def _client(self, hop: _Hop, forwarded: list[bytes], connecting: list[bytes]) -> _Hop:
        entries = b",".join(forwarded).decode("latin-1").rsplit(",", _MAX_HOPS)[-_MAX_HOPS:] if forwarded else []
        while hop.is_own or hop.is_cloudflare:
            if hop.is_cloudflare and len(connecting) == 1:
                address = _parse(connecting[0].decode("latin-1").strip())
                if address is not None:
                    # A client, even with an address of the own proxies: no further entry is read.
                    return _Hop(_key(address), address, is_own=False, is_cloudflare=False)
            address = _parse(_without_port(entries.pop().strip())) if entries else None
            if address is None:
                return hop
            hop = self._hop(address, _key(address))
        return hop

    def _hop_of_peer(self, peer: str) -> _Hop:
        address = _parse(peer)
        return self._hop(address, peer if address is None else _key(address))

    def _hop(self, address: Address | None, key: str) -> _Hop:
        if address is None:
            return _Hop(key, None, is_own=False, is_cloudflare=False)
        own = any(address in network for network in self._own)
        return _Hop(key, address, own, not own and any(address in network for network in self._cloudflare))

    def _report(self, event: AddressEvent, peer: str) -> None:
        self.seen(event)
        if event not in self._warned:
            self._warned.add(event)
            self._warn(event, peer)


_WARNINGS: dict[str, str] = {
    _UNTRUSTED: "a forwarding header is ignored: its peer is not in TRUSTED_PROXY_IP or TRUSTED_PROXY_CIDR",
    _SHARED: (
        "a proxy of TRUSTED_PROXY_IP or TRUSTED_PROXY_CIDR sends no usable X-Forwarded-For (X-Real-IP and Forwarded "
        "are not read), and its clients share one rate limit: let it set X-Forwarded-For to the client's address. If "
        "it does, a client is in these ranges: list your proxies alone, since a trusted client can claim any address"
    ),
}


def _log_warning(event: str, peer: str) -> None:
    logs.warn(event, peer=peer, message=_WARNINGS[event])


def peer_of(req: falcon.asgi.Request) -> str:
    """The address at the other end of the connection: that of a proxy, if there is one."""
    client = req.scope.get("client")
    return str(client[0]) if client else ""


def is_from_this_host(req: falcon.asgi.Request) -> bool:
    """Whether a program of this host sent the request, as far as a request can show.

    Not when a proxy on loopback shows itself: by a header, by another host's name, or by HTTP/1.0, the default of nginx
    before 1.29.7, which sends no header at all. A proxy that shows nothing remains, such as nginx from then on: do not
    guard secrets with this.
    """
    address = _parse(peer_of(req))
    return (
        address is not None
        and address.is_loopback
        and req.scope["http_version"] != "1.0"
        and not any(name in _FORWARDING for name, _ in req.scope["headers"])
        and bool(_LOCAL_HOST.match(req.get_header("HOST") or ""))
    )


@lru_cache(maxsize=4096)
def site_of(key: str) -> str | None:
    """The /48 network of a key that is an IPv6 network: a provider gives it to one site, which then has 65 536 keys.
    None for other keys.
    """
    address = _parse(key)
    if address is None or address.version == 4:
        return None
    return f"{ipaddress.IPv6Address(int(address) >> 80 << 80)}/48"


def _without_port(text: str) -> str:
    found = _WITH_PORT.match(text)
    return text if found is None else found[1] or found[2]


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _key(address: Address) -> str:
    if address.version == 6:
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)
