"""The thread of a worker that closes connections, by `policy`, and pauses accepting while too many are open."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable

from sigil.serving import logs
from sigil.serving.connections import sockets
from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.connections.activity import ConnectionActivity, Requests
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.observer import ConnectionObserver, PauseReason, Reason
from sigil.serving.connections.policy import Connection, to_close
from sigil.serving.connections.unread import UnreadResponses

_TICK = 0.1
_ROUND_SECONDS = 1.0
# A burst of this many new descriptors brings the next round forward.
_BURST = 64
# The shares of a core that ticks and rounds use at most, each, and rounds while the gate is closed. With 9000
# connections a tick takes 8 ms, and a round 20 to 60 ms.
_LOAD, _LOAD_WHILE_CLOSED = 0.02, 0.25
_REPORT_SECONDS = 10.0
# Accepting resumes at this share of the total, with this many descriptors to spare.
_RESUME, _SPARE = 0.95, 16
_NONE_LEFT = {errno.EMFILE, errno.ENFILE}
_NETWORK_BITS = 128 - 48


class ConnectionGuard:
    """Watches the connections to the listening socket of `gate`. `on_loop` runs a call on the event loop."""

    def __init__(
        self,
        gate: AcceptGate,
        limits: ConnectionLimits,
        activity: ConnectionActivity,
        observer: ConnectionObserver,
        *,
        on_loop: Callable[[Callable[[], None]], object],
    ) -> None:
        self._gate = gate
        self._limits = limits
        self._activity = activity
        self._observer = observer
        self._on_loop = on_loop
        self._descriptors = sockets.DescriptorTable()
        self._open: dict[int, Connection] = {}
        # Sockets that are no connection of a client, by descriptor.
        self._others: dict[int, int] = {}
        self._last_count = 0
        self._next_round = 0.0
        self._report = _Report()

    def start(self) -> None:
        threading.Thread(target=self._run, name="connection-guard", daemon=True).start()

    def _run(self) -> None:
        pause, next_report = _TICK, 0.0
        while True:
            time.sleep(pause)
            try:
                pause = self.check()
            # The next round may succeed, and accepting may be paused until then.
            except Exception as error:
                pause, now = _ROUND_SECONDS, time.monotonic()
                if now >= next_report:
                    logs.error("connection_guard_failed", exc=error)
                    next_report = now + _REPORT_SECONDS

    def check(self) -> float:
        """One look at the number of descriptors, and a round over all connections when it is due. Returns the seconds
        until the next look.
        """
        now, started = time.monotonic(), time.thread_time()
        descriptors = self._list_descriptors()
        listed = time.thread_time()
        if now >= self._next_round or len(descriptors) >= self._last_count + _BURST:
            self._round(descriptors, now)
            self._last_count = len(descriptors)
            took = time.thread_time() - listed
            rest = took / _LOAD_WHILE_CLOSED if self._gate.closed else max(_ROUND_SECONDS, took / _LOAD)
            self._next_round = now + rest
        return _TICK if self._gate.closed else max(_TICK, (listed - started) / _LOAD)

    def _list_descriptors(self) -> list[int]:
        try:
            return self._descriptors.open_now()
        except OSError as error:
            # Without /proc, a worker serves without limits.
            if error.errno not in _NONE_LEFT:
                raise
        # Nothing accepts any more, and the reserve lets accept() return and this thread list them.
        self._pause("no_descriptor")
        self._next_round = 0.0
        self._descriptors.release_reserve()
        for _ in range(20):
            with contextlib.suppress(OSError):
                return self._descriptors.open_now()
            time.sleep(0.01)
        return self._descriptors.open_now()

    def _round(self, descriptors: list[int], now: float) -> None:
        self._update(descriptors, now)
        for connection, reason in to_close(self._open.values(), now, self._limits).items():
            # A round takes a while, and a request may have begun in the meantime.
            if reason != "unread_response" and self._is_used(connection):
                continue
            if sockets.shut_down(connection.descriptor, connection.inode, reset=reason != "idle"):
                self._report.closed[reason] += 1
                self._observer.closed(reason)
        if len(self._open) > self._limits.total:
            self._pause("total_limit")
        elif len(self._open) <= self._limits.total * _RESUME and self._descriptors.free(descriptors) >= _SPARE:
            self._descriptors.fill_reserve()
            self._gate.open()
        self._observer.open(len(self._open))
        self._report.write(now, len(self._open), self._limits.total)

    def _pause(self, reason: PauseReason) -> None:
        if not self._gate.closed:
            self._gate.close()
            self._observer.paused(reason)
            self._report.pauses[reason] += 1

    def _update(self, descriptors: list[int], now: float) -> None:
        """Bring the tables up to date. A descriptor is a known one as long as its socket is the same."""
        known, self._open = self._open, {}
        others, self._others = self._others, {}
        for descriptor in descriptors:
            inode = sockets.inode(descriptor)
            if inode is None:
                continue
            connection = known.get(descriptor)
            if connection is None or connection.inode != inode:
                connection = None if others.get(descriptor) == inode else self._identify(descriptor, inode, now)
            if connection is None:
                self._others[descriptor] = inode
            else:
                self._open[descriptor] = connection
                self._observe(connection, now)
        peers = {connection.peer for connection in self._open.values()}
        if gone := [peer for peer in self._activity.peers() if peer not in peers]:
            self._on_loop(lambda: self._activity.forget(gone, before=now))

    def _identify(self, descriptor: int, inode: int, now: float) -> Connection | None:
        peer = sockets.client_of(descriptor, self._gate.port)
        if peer is None:
            return None
        address = self._observer.address_of(peer[0])
        network = _network(peer[0]) if address is not None else None
        return Connection(descriptor, inode, peer, address, network, now, UnreadResponses(now))

    def _observe(self, connection: Connection, now: float) -> None:
        requests, unread = self._requests_of(connection), connection.unread
        if requests is None:
            return
        written = requests.written
        # Only a connection with responses since the last round costs a system call.
        if written != unread.received_all_of:
            received = sockets.bytes_acknowledged(connection.descriptor)
            if received is not None:
                unread.observe(now, written, received)
        requests.written_before = written

    def _requests_of(self, connection: Connection) -> Requests | None:
        if connection.requests is None and (requests := self._activity.of(connection.peer)):
            # The client may have used the port for another connection a moment ago: its bytes are not of this one.
            connection.unread.begin_at(requests.written_before)
            connection.requests = requests
        return connection.requests

    def _is_used(self, connection: Connection) -> bool:
        requests = self._requests_of(connection)
        return requests is not None and requests.running > 0


class _Report:
    """What the guard did since its last log line: an attacker does not fill the log."""

    def __init__(self) -> None:
        self.closed: Counter[Reason] = Counter()
        self.pauses: Counter[PauseReason] = Counter()
        self._next = 0.0

    def write(self, now: float, open_connections: int, limit: int) -> None:
        if now < self._next or not (self.closed or self.pauses):
            return
        fields = {"open": open_connections, "limit": limit}
        if self.pauses:
            logs.warn("accepting_paused", times=dict(self.pauses), **fields)
        if self.closed:
            logs.warn("connections_closed", connections=dict(self.closed), **fields)
        self.closed.clear()
        self.pauses.clear()
        self._next = now + _REPORT_SECONDS


def _network(host: str) -> str | None:
    """The /48 of an IPv6 address: a client that has a /48 has 65 536 of the /64 networks that count as one address."""
    address = ipaddress.ip_address(host)
    if address.version == 4 or address.ipv4_mapped:
        return None
    return str(ipaddress.IPv6Address(int(address) >> _NETWORK_BITS << _NETWORK_BITS))
