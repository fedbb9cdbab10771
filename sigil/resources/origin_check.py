"""Who may use the first-boot wizard: its own page, opened at an address of this server."""

from __future__ import annotations

import ipaddress
import re

from falcon.asgi import Request

from sigil.protocol.errors import OriginRefused

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?\Z")
# Of a listener that only this host can reach: whoever sends them stands in front of it, and speaks for others.
_PROXIES = ("X-FORWARDED-FOR", "X-FORWARDED-HOST", "FORWARDED", "X-REAL-IP", "CF-CONNECTING-IP", "VIA")


class OriginCheck:
    """Refuses what another site's page sends, and names that a stranger's DNS gave to this address (DNS rebinding).

    With `any_name`, because a token is asked for, the Host may be anything; otherwise it is one of `names`, or an
    address: a loopback address when `loopback_only`. `scheme` is that of this listener.
    """

    def __init__(
        self,
        *,
        scheme: str,
        public_url: str | None,
        any_name: bool,
        loopback_only: bool,
        names: frozenset[str] = frozenset({"localhost"}),
    ) -> None:
        # A proxy in front of plain HTTP speaks either to its clients.
        self._schemes = ("https",) if scheme == "https" else ("http", "https")
        self._public_url = public_url
        self._any_name = any_name
        self._loopback_only = loopback_only
        self._names = names

    def check(self, req: Request) -> str:
        """The Host, in lower case; OriginRefused."""
        host = (req.get_header("HOST") or "").lower()
        if not self._is_ours(host) or not self._is_same(req.get_header("ORIGIN"), host):
            raise OriginRefused
        if req.get_header("SEC-FETCH-SITE") not in {None, "same-origin", "none"}:
            raise OriginRefused
        if self._loopback_only and not self._any_name and any(req.get_header(name) for name in _PROXIES):
            raise OriginRefused
        return host

    def _is_ours(self, host: str) -> bool:
        match = _HOST.match(host)
        if match is None:
            return False
        name = match[1].strip("[]")
        if self._any_name or name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback_only

    def _is_same(self, origin: str | None, host: str) -> bool:
        if origin is None or origin == self._public_url:
            return True
        return origin.lower() in {f"{scheme}://{host}" for scheme in self._schemes}
