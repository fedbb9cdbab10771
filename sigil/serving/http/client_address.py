"""The client address of a request, directly or through trusted proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import falcon.asgi

from sigil.serving import logs

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Some proxies append the client's port. If it were not removed, all clients of such a proxy would count as one.
_WITH_PORT = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+)|\[([0-9a-f:.]+)\])(?::\d{1,5})?\Z", re.ASCII | re.IGNORECASE)


class ClientAddresses:
    """The client of a request, as the key of rate limits: an IPv4 address, or the /64 network of an IPv6 address.

    `X-Forwarded-For` counts only from `trusted` peers, read from the right up to the first address that is not
    trusted. With `cloudflare`, `CF-Connecting-IP` counts instead. `on_untrusted` is called once, when such a header
    comes from any other peer: a sign of a proxy that is not configured, or of a forged header.
    """

    def __init__(
        self,
        trusted: Sequence[Network] = (),
        *,
        cloudflare: bool = False,
        on_untrusted: Callable[[str], None] | None = None,
    ) -> None:
        self._trusted = tuple(trusted)
        self._header = "CF-CONNECTING-IP" if cloudflare else "X-FORWARDED-FOR"
        self._raw_header = self._header.lower().encode()
        self._on_untrusted = on_untrusted or _warn_untrusted
        self._warned = False

    def of(self, req: falcon.asgi.Request) -> str:
        client = req.scope.get("client")
        return self._of(str(client[0]) if client else "", req.get_header(self._header))

    def of_peer(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Like `of`, without Falcon; header names are in lower case, and one header may come in several lines."""
        lines = [value for name, value in headers if name == self._raw_header]
        return self._of(peer, b",".join(lines).decode("latin-1") if lines else None)

    def of_connection(self, peer: str) -> str | None:
        """For a connection without a request yet; None for a trusted proxy, whose connections carry many clients."""
        return None if self._is_trusted(_parse(peer)) else _key_of_peer(peer)

    def _of(self, peer: str, forwarded: str | None) -> str:
        if forwarded is None:
            return _key_of_peer(peer)
        if not self._is_trusted(_parse(peer)):
            self._warn_once(peer)
            return _key_of_peer(peer)
        return _key(self._nearest_untrusted(forwarded, _parse(peer)), peer)

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def _nearest_untrusted(self, forwarded: str, nearest: Address | None) -> Address | None:
        """Entries further left come from an untrusted client, which may write anything there."""
        for text in reversed(forwarded.split(",")):
            address = _parse(_without_port(text.strip()))
            if address is None:
                return nearest
            nearest = address
            if not self._is_trusted(address):
                return nearest
        return nearest

    def _warn_once(self, peer: str) -> None:
        if not self._warned:
            self._warned = True
            self._on_untrusted(peer)


def _warn_untrusted(peer: str) -> None:
    logs.warn(
        "untrusted_proxy_header",
        peer=peer,
        message="a forwarding header is ignored: its peer is not in TRUSTED_PROXY_IP or TRUSTED_PROXY_CIDR",
    )


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


@lru_cache(maxsize=4096)
def _key_of_peer(peer: str) -> str:
    return _key(_parse(peer), peer)


def _key(address: Address | None, fallback: str) -> str:
    if address is None:
        return fallback
    if address.version == 6:
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)
