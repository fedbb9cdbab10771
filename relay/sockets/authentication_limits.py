"""Limits on authentications at `/ws`, whose queries a client causes that needs no key of this relay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from sigil.protocol.errors import RateLimited
from sigil.serving.http.rate_limits import FAILURE_COST, AddressBuckets

CONNECTS_PER_MINUTE = 60
"""Of one device in a worker. A device waits between attempts to reconnect."""
_MAX_KNOWN = 65_536


class AuthenticationLimits:
    """`failures` limits the failed authentications of an address, and queries about registrations; `connects` the
    connections of a device, by its fingerprint. `on_limited` is called for each authentication that either rejects.

    An address over its limit keeps out devices that did not authenticate at this worker before, and no others: a client
    that shares the address of devices cannot keep them out.
    """

    def __init__(
        self, failures: AddressBuckets, connects: AddressBuckets, on_limited: Callable[[], None] = lambda: None
    ) -> None:
        self._failures = failures
        self._connects = connects
        self._on_limited = on_limited
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def check(self, address: str, fingerprint: bytes) -> None:
        """RateLimited; after the signature is verified, and before the registry is queried."""
        try:
            if fingerprint not in self._known:
                self._failures.check(address)
            self._connects.check(fingerprint.hex())
        except RateLimited:
            self._on_limited()
            raise

    def connected(self, fingerprint: bytes) -> None:
        self._connects.charge(fingerprint.hex())
        self._known[fingerprint] = None
        self._known.move_to_end(fingerprint)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def failed(self, address: str) -> None:
        self._failures.charge(address, FAILURE_COST)

    def queried(self, address: str) -> None:
        """A device of APNs or FCM has checked its registration."""
        self._failures.charge(address)
