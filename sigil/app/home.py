"""The parts of the server's own page: the states that it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sigil.config.settings import Config
from sigil.core import circuit_breaker
from sigil.core.session_store import SessionStore, StoreFull, StoreUnusable
from sigil.resources import home
from sigil.resources.home import HomeResource, Shown
from sigil.resources.pages import PageFiles
from sigil.serving.tls.certificate_facts import CertificateFacts


def home_resource(
    config: Config, pages: PageFiles, values: dict[str, str], store: SessionStore, run: int
) -> HomeResource:
    """`values` are those that do not change; `run` is this start of the server."""
    return HomeResource(
        lambda states: pages.fill("home.html", values | states),
        relay=_relay_state(config, store, run),
        webhooks=home.WEBHOOKS_ON if config.webhook else home.WEBHOOKS_OFF,
        certificate=_certificate_state(config),
    )


def _relay_state(config: Config, store: SessionStore, run: int) -> Callable[[], Awaitable[Shown]]:
    async def state() -> Shown:
        if not config.relay_url:
            return home.RELAY_OFF
        try:
            row = circuit_breaker.current_run(run, await store.get(circuit_breaker.RELAY_KEY))
        except (StoreFull, StoreUnusable):
            return home.RELAY_UNKNOWN
        return home.RELAY_BAD if circuit_breaker.is_open(row) else home.RELAY_GOOD

    return state


def _certificate_state(config: Config) -> Callable[[float], Shown]:
    # A visitor behind a proxy sees the certificate of the proxy, not ours.
    if config.http_only or config.proxies:
        return lambda now: home.CERTIFICATE_OF_PROXY
    # Read once: workers are replaced when the server gets another one.
    facts = CertificateFacts.read(config.tls_cert)

    def state(now: float) -> Shown:
        if facts is None:
            return home.CERTIFICATE_UNKNOWN
        fault = facts.fault(now)
        return Shown("bad", fault) if fault else Shown("good", facts.summary)

    return state
