"""The page /status, in both modes: the figures of /metrics, which it fetches with the token that a person enters."""

from __future__ import annotations

from sigil.config.settings import Config
from sigil.resources.pages import PageFiles, PageResource


def status_page(config: Config, pages: PageFiles) -> PageResource:
    """Its bytes are ready; they say who may read /metrics, which a request of that shows too."""
    if config.telemetry == "none":
        access = "none"
    elif config.metrics_token:
        access = "token"
    else:
        access = "open" if config.metrics_open else "local"
    return PageResource(pages.fill("status/status.html", {"server_name": config.server_name, "access": access}))
