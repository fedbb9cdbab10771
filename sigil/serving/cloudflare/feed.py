"""The master fetches Cloudflare's published ranges at its start and once a day, without waiting for them.

The fetch is a process (see `fetch`), whose pipe this reads without blocking; `ranges` checks the lists. The published
lists replace the ranges in use: a range that Cloudflare gave back belongs to others, who could name any client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sigil.serving import logs
from sigil.serving.addresses.proxies import Proxies
from sigil.serving.cloudflare.ranges import EMBEDDED, MAX_LIST, UnusableList, read_lists
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
_PROGRAM = Path(__file__).with_name("fetch.py")
# JSON writes up to 6 characters for one byte.
_MAX_ANSWER = 2 * 6 * MAX_LIST + 1024
# Not the whole environment: where it could not be cleared of secrets, this process would inherit them.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "RES_OPTIONS", "LOCALDOMAIN")


def feed_for(proxies: Proxies, times: Times = Times()) -> CloudflareFeed | None:
    """None when the settings need no list."""
    return CloudflareFeed(proxies.lists_url, times) if proxies.lists_url else None


class CloudflareFeed:
    """`sigil.serving.process.supervisor.SettingsFeed`. `url` is where the lists ips-v4 and ips-v6 are."""

    def __init__(self, url: str, times: Times = Times()) -> None:
        self._url = url
        self._times = times
        self._ranges: tuple[Network, ...] = EMBEDDED
        self._fetch: _Fetch | None = None
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
        answer = self._fetch.answer(now)
        if answer is None:
            return False
        fault = self._fetch.fault
        self.stop()
        if fault is None:
            return self._take(answer, now)
        self._fail(fault, now)
        return False

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
            self._fetch = _Fetch(self._url, self._times.fetch, now)
        except OSError as error:
            self._fail(f"no process for the fetch: {error.strerror}", now)

    def _take(self, answer: bytes, now: float) -> bool:
        try:
            ranges = _read(answer)
        except UnusableList as error:
            self._fail(str(error), now)
            return False
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
        return True

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


class _Fetch:
    """A running fetch; OSError when the process cannot be started."""

    def __init__(self, url: str, seconds: int, now: float) -> None:
        # Neither the working directory nor PYTHON… variables (-I) nor site-packages (-S) have a part in this program.
        command = [sys.executable, "-IS", str(_PROGRAM), url, str(MAX_LIST), str(seconds)]
        environ = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._answer = bytearray()
        self._kill_at = now + seconds * 4 / 3
        self._pipe, write = os.pipe()
        try:
            # Ctrl-C in a terminal is for the master: hence the session.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(write)
        os.set_blocking(self._pipe, False)

    def answer(self, now: float) -> bytes | None:
        """What the process wrote; None while it runs."""
        ended = self._process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while len(self._answer) <= _MAX_ANSWER and (part := os.read(self._pipe, 65_536)):
                self._answer += part
        return bytes(self._answer) if ended or now >= self._kill_at else None

    @property
    def fault(self) -> str | None:
        """Why a process ended that wrote no answer, in other ways than by its time-out."""
        status = self._process.returncode
        if status in {None, 0, -signal.SIGALRM}:
            return None
        return f"the process of the fetch ended with {f'signal {-status}' if status < 0 else f'exit code {status}'}"

    def close(self) -> None:
        self._process.kill()
        # A process that hangs in the kernel outlives the signal; Python reaps it later.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        os.close(self._pipe)


def _read(answer: bytes) -> tuple[Network, ...]:
    try:
        found = json.loads(answer)
        if "error" in found:
            raise UnusableList(str(found["error"])[:200])
        return read_lists(found["ipv4"].encode("latin-1"), found["ipv6"].encode("latin-1"))
    except UnusableList:
        raise
    # The process was ended, and wrote nothing or a part.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableList("no answer in time") from None


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _shown(networks: set[Network]) -> list[str]:
    shown = [str(network) for network in sorted(networks, key=_order)[:_MAX_LOGGED]]
    return shown + ["…"] * (len(networks) > _MAX_LOGGED)
