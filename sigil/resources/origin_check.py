"""The origin check of the first-boot wizard: only its own page, opened at an address of this server, may use it."""

from __future__ import annotations

import ipaddress

from falcon.asgi import Request

from sigil.protocol.errors import OriginRefused
from sigil.protocol.origin import NotAnOrigin, parse_origin
from sigil.serving.http.client_address import is_from_this_host


class OriginCheck:
    """Rejects cross-site requests, and host names that foreign DNS points at this address (DNS rebinding).

    With `any_name`, which is safe where the wizard requires a token, any Host is accepted. Otherwise the Host is one of
    `names` or an IP address, with `loopback_only` a loopback address. `scheme` is that of this listener.
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
        # A proxy in front of plain HTTP may serve its clients over either scheme.
        self._schemes = ("https",) if scheme == "https" else ("http", "https")
        self._public_url = public_url
        self._any_name = any_name
        self._loopback_only = loopback_only
        self._names = names

    def check(self, req: Request) -> str:
        """The Host, in lower case. Raises OriginRefused."""
        host = (req.get_header("HOST") or "").lower()
        if not self._is_own_host(host) or not self._is_same_origin(req.get_header("ORIGIN"), host):
            raise OriginRefused
        if req.get_header("SEC-FETCH-SITE") not in {None, "same-origin", "none"}:
            raise OriginRefused
        if self._loopback_only and not self._any_name and not is_from_this_host(req):
            raise OriginRefused
        return host

    def _is_own_host(self, host: str) -> bool:
        try:
            # An address that devices cannot pin is none of this server.
            name = parse_origin(f"{self._schemes[0]}://{host}").host.strip("[]")
        except NotAnOrigin:
            return False
        if self._any_name or name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback_only

    def _is_same_origin(self, origin: str | None, host: str) -> bool:
        if origin is None or origin == self._public_url:
            return True
        return origin.lower() in {f"{scheme}://{host}" for scheme in self._schemes}
