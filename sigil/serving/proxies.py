"""The settings of proxies, the same for every service: whose forwarding headers name the client of a request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sigil.serving.settings import EnvReader, Network, networks

# Cloudflare's published ranges at the time of the release. Newer ranges belong into TRUSTED_PROXY_CIDR: Cloudflare also
# appends the client to X-Forwarded-For.
_CLOUDFLARE = (
    "173.245.48.0/20,103.21.244.0/22,103.22.200.0/22,103.31.4.0/22,141.101.64.0/18,108.162.192.0/18,190.93.240.0/20,"
    "188.114.96.0/20,197.234.240.0/22,198.41.128.0/17,162.158.0.0/15,104.16.0.0/13,104.24.0.0/14,172.64.0.0/13,"
    "131.0.72.0/22,2400:cb00::/32,2606:4700::/32,2803:f800::/32,2405:b500::/32,2405:8100::/32,2a06:98c0::/29,"
    "2c0f:f248::/32"
)
# More than anyone runs proxies in: a larger range also has clients in it.
_MOST_PROXIES = 256


@dataclass(frozen=True)
class Proxies:
    """`own` proxies name the client in X-Forwarded-For. `cloudflare` has its ranges if requests come through it; its
    CF-Connecting-IP counts if `connecting_ip`.
    """

    own: tuple[Network, ...] = ()
    cloudflare: tuple[Network, ...] = ()
    connecting_ip: bool = False

    def __bool__(self) -> bool:
        return bool(self.own or self.cloudflare)


def read_proxies(r: EnvReader) -> Proxies:
    none: tuple[Network, ...] = ()
    connecting_ip = r.flag("USE_CF_CONNECTING_IP", default=False)
    cloudflare = r.value("TRUSTED_PROXY_PROVIDER", none, _ranges_of)
    own = none
    for name in ("TRUSTED_PROXY_IP", "TRUSTED_PROXY_CIDR"):
        given = r.value(name, none, networks)
        r.warnings += [_wide(name, network) for network in given if network.num_addresses > _MOST_PROXIES]
        own += given
    # Without its ranges the header would count from no peer at all.
    return Proxies(own, networks(_CLOUDFLARE) if connecting_ip else cloudflare, connecting_ip)


def _ranges_of(provider: str) -> tuple[Network, ...]:
    if provider.lower() != "cloudflare":
        raise ValueError("must be cloudflare, the only known provider")
    return networks(_CLOUDFLARE)


def _wide(name: str, network: Network) -> str:
    everyone = network.prefixlen == 0
    size = "every address" if everyone else f"{network.num_addresses} addresses"
    if isinstance(network, ipaddress.IPv6Network) and not everyone:
        size = f"a /{network.prefixlen} of addresses"
    return (
        f"{name}: {network} trusts {size}, and each of them can claim to be any client and so escape its rate limit: "
        "list the addresses of your proxies alone in TRUSTED_PROXY_IP"
    )
