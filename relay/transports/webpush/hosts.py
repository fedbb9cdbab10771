"""Connections to push services: a pool for each host, opened at its first push and closed when it is idle.

Which hosts are allowed, the settings decide. This module bounds what a host may take, so that none takes it from
others: the number of pools, the threads that resolve names, and the addresses that a name may resolve to.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from relay.transports import Load
from relay.transports.connection_pool import Connection, ConnectionPool, PoolSettings
from relay.transports.http1 import Negotiated
from relay.web_push_settings import HTTPS_PORT, Host
from sigil.serving.addresses.public_networks import is_public

CONNECTIONS = 2
IDLE_SECONDS = 300.0
MAX_WILDCARD_HOSTS = 32
"""Hosts that a wildcard allowed, at once: anyone who registers may make such names up. Each host that the list names
has its pool in any case."""
_WILDCARD_LOOKUPS = 4
_SWEEP_SECONDS = 30.0
_MAX_ADDRESSES = 3
"""Of a name: with more, the part of the time that each gets would be too short for TLS to a distant service."""
_MAX_WILDCARD_WAITS = 64


class AddressRefused(OSError):
    """The name resolves to addresses that are not of the public internet. The type is in the log as the reason."""


class HostsBusy(Exception):
    """Too many hosts of a wildcard have requests in flight."""


class HostPools:
    """`monotonic` gives seconds; `look_up` the addresses of a name, in a thread (OSError)."""

    def __init__(
        self,
        settings: PoolSettings = PoolSettings(connections=CONNECTIONS),  # noqa: B008 - frozen
        monotonic: Callable[[], float] = time.monotonic,
        look_up: Callable[[str], list[str]] | None = None,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._pools: OrderedDict[str, _Pool] = OrderedDict()
        self._resolver = Resolver(look_up or addresses_of)
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["h2", "http/1.1"])
        self._sweeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._sweeper = asyncio.create_task(self._close_idle())

    def load(self) -> Load:
        loads = [entry.pool.load() for entry in self._pools.values()]
        return Load(sum(load.connections for load in loads), sum(load.streams for load in loads))

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for name in list(self._pools):
            self._end(name)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._resolver.close()

    def use(self, host: Host, name: str) -> _Pool:
        """A context manager, in which the pool is not closed; HostsBusy."""
        entry = self._pools.get(name)
        if entry is None:
            if host.wildcard:
                self._make_place()
            entry = self._pools[name] = _Pool(self._pool(host, name), host.wildcard, self._monotonic)
        self._pools.move_to_end(name)
        return entry

    def _pool(self, host: Host, name: str) -> ConnectionPool:
        async def connect() -> Connection:
            return await self.connect(host, name)

        pool = ConnectionPool("webpush", connect, self._settings, host=name, quiet=host.wildcard)
        pool.open()
        return pool

    def _make_place(self) -> None:
        """HostsBusy. The first to go is one that has no connection, then the one that was used the longest ago."""
        guests = [(name, entry) for name, entry in self._pools.items() if entry.wildcard]
        if len(guests) < MAX_WILDCARD_HOSTS:
            return
        idle = [(name, entry) for name, entry in guests if not entry.users]
        if not idle:
            raise HostsBusy
        self._end(next((name for name, entry in idle if not entry.pool.load().connections), idle[0][0]))

    async def connect(self, host: Host, name: str) -> Connection:
        """OSError. The certificate is that of the name, also at another address."""
        loop = asyncio.get_running_loop()
        if host.address is not None:
            addresses, port = [host.address], host.port
        else:
            addresses, port = await self._resolver.resolve(name, wildcard=host.wildcard), HTTPS_PORT
        until = loop.time() + self._settings.connect_timeout
        for number, address in enumerate(addresses, 1):
            # Its part of the time that is left: an address that does not answer must not use up all of it.
            seconds = (until - loop.time()) / (len(addresses) - number + 1)
            try:
                async with asyncio.timeout(seconds):
                    _, made = await loop.create_connection(
                        Negotiated, address, port, ssl=self._tls, server_hostname=name
                    )
                if made.connection is not None:
                    return made.connection
            except (OSError, TimeoutError):
                if number == len(addresses):
                    raise
        raise OSError("no connection")

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            before = self._monotonic() - IDLE_SECONDS
            for name, entry in list(self._pools.items()):
                if not entry.users and entry.used_at < before:
                    self._end(name)

    def _end(self, name: str) -> None:
        closing = asyncio.create_task(self._pools.pop(name).pool.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Pool:
    """A pool while it is in use by `users`."""

    def __init__(self, pool: ConnectionPool, wildcard: bool, monotonic: Callable[[], float]) -> None:
        self.pool = pool
        self.wildcard = wildcard
        self.users = 0
        self._monotonic = monotonic
        self.used_at = monotonic()

    def __enter__(self) -> ConnectionPool:
        self.users += 1
        return self.pool

    def __exit__(self, *_error: object) -> None:
        self.users -= 1
        self.used_at = self._monotonic()


class Resolver:
    """Public addresses of names, resolved in threads: getaddrinfo blocks, and no caller can cancel it.

    One lookup of a name at a time, and few of wildcards: a name whose servers do not answer holds one thread, and no
    other name waits for it. The threads are daemons: the end of a worker does not wait for them.
    """

    def __init__(self, look_up: Callable[[str], list[str]]) -> None:
        self._look_up = look_up
        self._wildcards = asyncio.Semaphore(_WILDCARD_LOOKUPS)
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, name: str, *, wildcard: bool) -> list[str]:
        """At most three, of both families if the name has both; OSError, AddressRefused."""
        lookup = self._lookups.get(name)
        if lookup is None:
            # Lookups that no caller waits for any more must not pile up.
            if wildcard and len(self._lookups) >= _MAX_WILDCARD_WAITS:
                raise OSError("too many lookups")
            lookup = self._lookups[name] = asyncio.create_task(self._resolve(name, wildcard))
            lookup.add_done_callback(lambda done: self._done(name, done))
        found = await asyncio.shield(lookup)
        public = [address for address in found if is_public(address)]
        if not public:
            raise AddressRefused("no public address")
        return _of_both_families(public)[:_MAX_ADDRESSES]

    async def _resolve(self, name: str, wildcard: bool) -> list[str]:
        async with self._wildcards if wildcard else contextlib.nullcontext():
            return await self._in_thread(name)

    def _in_thread(self, name: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[list[str]] = loop.create_future()

        def end(found: list[str] | OSError) -> None:
            if result.done():
                return
            if isinstance(found, OSError):
                result.set_exception(found)
            else:
                result.set_result(found)

        def run() -> None:
            found: list[str] | OSError
            try:
                found = self._look_up(name)
            except OSError as error:
                found = error
            except Exception:
                # Such as UnicodeError: getaddrinfo encodes the name itself.
                found = OSError("the name cannot be resolved")
            # The worker has ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end, found)

        try:
            threading.Thread(target=run, name="resolve", daemon=True).start()
        except RuntimeError:
            # At the limit of threads of this host.
            raise OSError("no thread for a lookup") from None
        return result

    def _done(self, name: str, lookup: asyncio.Task[list[str]]) -> None:
        del self._lookups[name]
        if not lookup.cancelled():
            # Retrieved also when no caller waits any more.
            lookup.exception()

    async def close(self) -> None:
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)


def addresses_of(name: str) -> list[str]:
    """In the order of the system's preference; OSError."""
    found = socket.getaddrinfo(name, HTTPS_PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _of_both_families(addresses: list[str]) -> list[str]:
    """The first of each family before all others: a host without IPv6 must reach a name with many IPv6 addresses."""
    first = [next((address for address in addresses if (":" in address) is v6), None) for v6 in (False, True)]
    heads = [address for address in addresses if address in first]
    return heads + [address for address in addresses if address not in first]
