"""Several sources of settings as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigil.serving.process.supervisor import SettingsFeed


class SeveralFeeds:
    """`sigil.serving.process.supervisor.SettingsFeed`."""

    def __init__(self, feeds: list[SettingsFeed]) -> None:
        self._feeds = feeds

    def step(self, now: float) -> bool:
        # Each of them, also after one that has news.
        news = [feed.step(now) for feed in self._feeds]
        return any(news)

    def applied(self, settings: object) -> object:
        for feed in self._feeds:
            settings = feed.applied(settings)
        return settings

    def refresh(self) -> None:
        for feed in self._feeds:
            feed.refresh()

    def stop(self) -> None:
        for feed in self._feeds:
            feed.stop()
