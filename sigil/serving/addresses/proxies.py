"""The settings of proxies, the same for every service: whose forwarding headers name the client of a request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sigil.serving.cloudflare.ranges import EMBEDDED
from sigil.serving.settings import EnvReader, Network, https_url, networks

_CLOUDFLARE_LISTS: str | None = "https://www.cloudflare.com"
"""Cloudflare publishes its ranges there, as /ips-v4 and /ips-v6."""
# More than anyone runs proxies in: a larger range also has clients in it.
_MOST_PROXIES = 256


@dataclass(frozen=True)
class Proxies:
    """`own` proxies name the client in X-Forwarded-For. `cloudflare` has its ranges if requests come through it; its
    CF-Connecting-IP counts if `connecting_ip`. The master fetches newer ranges from `lists_url`, if there is one.
    """

    own: tuple[Network, ...] = ()
    cloudflare: tuple[Network, ...] = ()
    connecting_ip: bool = False
    lists_url: str | None = None

    def __bool__(self) -> bool:
        return bool(self.own or self.cloudflare)


def read_proxies(r: EnvReader) -> Proxies:
    none: tuple[Network, ...] = ()
    connecting_ip = r.flag("USE_CF_CONNECTING_IP", default=False)
    cloudflare = r.value("TRUSTED_PROXY_PROVIDER", none, _ranges_of)
    # Without its ranges the header would count from no peer at all.
    cloudflare = EMBEDDED if connecting_ip else cloudflare
    lists_url = r.value("TRUSTED_PROXY_RANGES_URL", _CLOUDFLARE_LISTS, _lists_url)
    if r.text("TRUSTED_PROXY_RANGES_URL") and not cloudflare:
        r.warnings.append("TRUSTED_PROXY_RANGES_URL has no effect without TRUSTED_PROXY_PROVIDER=cloudflare")
    own = none
    for name in ("TRUSTED_PROXY_IP", "TRUSTED_PROXY_CIDR"):
        given = r.value(name, none, networks)
        r.warnings += [_wide(name, network) for network in given if network.num_addresses > _MOST_PROXIES]
        own += given
    return Proxies(own, cloudflare, connecting_ip, lists_url if cloudflare else None)


def _ranges_of(provider: str) -> tuple[Network, ...]:
    if provider.lower() != "cloudflare":
        raise ValueError("must be cloudflare, the only known provider")
    return EMBEDDED


def _lists_url(text: str) -> str | None:
    return None if text.lower() == "off" else https_url(text)


def _wide(name: str, network: Network) -> str:
    everyone = network.prefixlen == 0
    size = "every address" if everyone else f"{network.num_addresses} addresses"
    if isinstance(network, ipaddress.IPv6Network) and not everyone:
        size = f"a /{network.prefixlen} of addresses"
    return (
        f"{name}: {network} trusts {size}, and each of them can claim to be any client and so escape its rate limit: "
        "list the addresses of your proxies alone in TRUSTED_PROXY_IP"
    )
