"""The master fetches Cloudflare's published ranges at its start and once a day, without waiting for them.

The fetch is a process (`sigil.serving.fetches`), whose pipe is read without blocking; `ranges` checks the lists. The
published lists replace the ranges in use: a range that Cloudflare gave back belongs to others, who could name any
client.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sigil.serving import logs
from sigil.serving.addresses.proxies import Proxies
from sigil.serving.cloudflare.ranges import EMBEDDED, MAX_LIST, UnusableList, read_lists
from sigil.serving.fetches.process import FetchFailed, FetchProcess
from sigil.serving.settings import Network


@dataclass(frozen=True)
class Times:
    """In seconds. After a failure the next attempt comes after `retry`, then twice as long, up to `interval`. A fetch
    ends itself after `fetch`, and is killed after a third more.
    """

    interval: float = 86_400
    retry: float = 300
    fetch: int = 30


_MAX_LOGGED = 16


def feed_for(proxies: Proxies, times: Times = Times()) -> CloudflareFeed | None:
    """None when the settings need no list."""
    return CloudflareFeed(proxies.lists_url, times) if proxies.lists_url else None


class CloudflareFeed:
    """`sigil.serving.process.supervisor.SettingsFeed`. `url` is where the lists ips-v4 and ips-v6 are."""

    def __init__(self, url: str, times: Times = Times()) -> None:
        self._url = url
        self._times = times
        self._ranges: tuple[Network, ...] = EMBEDDED
        self._fetch: FetchProcess | None = None
        self._due: float = 0
        self._failures = 0

    def applied(self, settings: Any) -> Any:
        """`settings` (`HasConfig`) with the ranges in use."""
        config = settings.config
        if config.proxies.cloudflare == self._ranges:
            return settings
        return replace(settings, config=replace(config, proxies=replace(config.proxies, cloudflare=self._ranges)))

    def step(self, now: float) -> bool:
        if self._fetch is None:
            if now >= self._due:
                self._start(now)
            return False
        if not self._fetch.ended(now):
            return False
        try:
            ipv4, ipv6 = self._fetch.result().bodies
            ranges = read_lists(ipv4, ipv6)
        except (FetchFailed, UnusableList) as error:
            self._fail(str(error), now)
            return False
        finally:
            self.stop()
        self._take(ranges, now)
        return True

    def refresh(self) -> None:
        self._due = 0
        # The operator who sends SIGHUP waits for a line.
        self._failures = 0

    def stop(self) -> None:
        if self._fetch is not None:
            self._fetch.close()
            self._fetch = None

    def _start(self, now: float) -> None:
        try:
            urls = [f"{self._url.rstrip('/')}/ips-v{version}" for version in (4, 6)]
            self._fetch = FetchProcess(urls, max_bytes=MAX_LIST, seconds=self._times.fetch, now=now)
        except OSError as error:
            self._fail(f"no process for the fetch: {error.strerror}", now)

    def _take(self, ranges: tuple[Network, ...], now: float) -> None:
        self._failures = 0
        self._due = now + self._times.interval
        added, removed = set(ranges) - set(self._ranges), set(self._ranges) - set(ranges)
        self._ranges = ranges
        logs.info(
            "cloudflare_ranges",
            ranges=len(ranges),
            changed=bool(added or removed),
            added=_shown(added),
            removed=_shown(removed),
        )

    def _fail(self, reason: str, now: float) -> None:
        wait = min(self._times.retry * 2 ** min(self._failures, 20), self._times.interval)
        self._due = now + wait
        self._failures += 1
        if self._failures == 1:
            logs.warn(
                "cloudflare_ranges_not_fetched",
                url=self._url,
                reason=reason,
                message=(
                    "the ranges in use stay; further failures are not logged. Allow https to this address, or set "
                    "TRUSTED_PROXY_RANGES_URL to a mirror, or to off"
                ),
            )


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _shown(networks: set[Network]) -> list[str]:
    shown = [str(network) for network in sorted(networks, key=_order)[:_MAX_LOGGED]]
    return shown + ["…"] * (len(networks) > _MAX_LOGGED)
