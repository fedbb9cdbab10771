"""The server's own page: its state in words, and nothing that only the operator may know."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.app.home import home_resource
from sigil.app.state import KINDS
from sigil.config.settings import Config
from sigil.core.circuit_breaker import RECEIVER_KEY, RELAY_KEY, BreakerState
from sigil.core.session_store import Decision, Key, StoreUnusable
from sigil.resources import home
from sigil.resources.home import HomeResource, Shown
from sigil.resources.pages import PageFiles, home_page_values
from sigil.serving.tls.certificate_facts import CertificateFacts
from sigil.serving.tls.self_signed import ensure_pair
from sigil.store.memory import MemoryStore
from tests.support.services import IDENTITY, START, Clock

RUN = 7
RELAY = "https://relay.internal.example:9443"
DAY = 86_400


class BrokenStore(MemoryStore):
    async def get(self, key: Key) -> Any | None:
        raise StoreUnusable("/run/sigil/state: gone")


async def page(store: MemoryStore, **settings: Any) -> str:
    """The home page of a server with these settings, without its loops: they would try to reach the relay."""
    values = home_page_values(IDENTITY, "Example Sign-in", "1.0.0")
    app = falcon.asgi.App()
    app.add_route("/", home_resource(Config(**settings), PageFiles.load(), values, store, RUN))
    async with falcon.testing.ASGIConductor(app) as conductor:
        answer = await conductor.simulate_get("/")
        assert answer.status_code == 200
        return answer.text


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(kinds=KINDS, clock=Clock())


async def open_breaker(store: MemoryStore, key: Key, *, run: int = RUN) -> None:
    row = BreakerState(run, False, int(START * 1000))
    await store.transact([key], lambda now, rows: Decision(None, ((key, row),)))


async def test_relay_and_webhooks_that_are_off_are_not_used(store: MemoryStore) -> None:
    shown = await page(store)
    assert home.RELAY_OFF.text in shown
    assert home.WEBHOOKS_OFF.text in shown


async def test_a_relay_is_used_until_its_breaker_opens(store: MemoryStore) -> None:
    assert home.RELAY_GOOD.text in await page(store, relay_url=RELAY)
    await open_breaker(store, RELAY_KEY, run=RUN - 1)
    assert home.RELAY_GOOD.text in await page(store, relay_url=RELAY), "the row of an earlier start"
    await open_breaker(store, RELAY_KEY)
    shown = await page(store, relay_url=RELAY)
    assert home.RELAY_BAD.text in shown
    assert 'data-state="bad"' in shown
    assert "relay.internal" not in shown


async def test_an_outage_of_the_webhook_receiver_is_not_shown_to_everyone(store: MemoryStore) -> None:
    before = await page(store)
    await open_breaker(store, RECEIVER_KEY)
    assert await page(store) == before


async def test_without_its_store_the_server_still_shows_its_page() -> None:
    shown = await page(BrokenStore(kinds=KINDS, clock=Clock()), relay_url=RELAY)
    assert home.RELAY_UNKNOWN.text in shown
    assert "/run/sigil" not in shown


async def test_behind_plain_http_the_certificate_is_that_of_the_proxy(store: MemoryStore) -> None:
    assert home.CERTIFICATE_OF_PROXY.text in await page(store, http_only=True)


async def test_the_certificate_of_the_server_has_its_origin_and_its_end(store: MemoryStore, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert ensure_pair(cert, key, generate=True)
    shown = await page(store, tls_cert=cert, tls_key=key)
    facts = CertificateFacts.read(cert)
    assert facts
    assert f"Self-signed: devices and backends need a copy of it; valid until {facts.ends.day}" in shown
    assert str(tmp_path) not in shown


def test_a_certificate_that_clients_reject_has_the_date() -> None:
    begins = datetime.datetime(2027, 3, 1, tzinfo=datetime.UTC)
    facts = CertificateFacts(False, begins, begins + datetime.timedelta(days=30))
    assert facts.fault(begins.timestamp() - DAY) == "Not valid before 1\u00a0March\u00a02027: clients reject it"
    assert facts.fault(begins.timestamp() + DAY) is None
    assert facts.fault(begins.timestamp() + 31 * DAY) == "Expired on 31\u00a0March\u00a02027: clients reject it"
    assert facts.summary == "Issued by an authority, valid until 31\u00a0March\u00a02027"


def test_a_file_without_a_certificate_has_no_facts(tmp_path: Path) -> None:
    assert CertificateFacts.read(tmp_path / "missing.pem") is None
    (tmp_path / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert CertificateFacts.read(tmp_path / "damaged.pem") is None


@pytest.mark.parametrize("with_chain", [True, False])
def test_a_certificate_of_an_authority_is_not_self_signed(tmp_path: Path, with_chain: bool) -> None:
    """Also where the file has the server's certificate alone."""
    now = datetime.datetime.now(datetime.UTC)
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = [
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("Example Authority"))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=90))
        .sign(authority, hashes.SHA256())
        for subject, private in (("auth.example.com", key), ("Example Authority", authority))
    ]
    path = tmp_path / "cert.pem"
    for file, self_signed in ((made if with_chain else made[:1], False), (made[1:], True)):
        path.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in file))
        facts = CertificateFacts.read(path)
        assert facts
        assert facts.self_signed == self_signed


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


async def test_many_requests_read_the_store_once_in_five_seconds() -> None:
    reads, clock = [], [0.0]

    async def relay() -> Shown:
        reads.append(clock[0])
        return home.RELAY_GOOD

    resource = HomeResource(
        lambda values: values["relay"].encode(),
        relay=relay,
        webhooks=home.WEBHOOKS_OFF,
        certificate=lambda now: home.CERTIFICATE_OF_PROXY,
        monotonic=lambda: clock[0],
    )
    app = falcon.asgi.App()
    app.add_route("/", resource)
    async with falcon.testing.ASGIConductor(app) as conductor:
        for at in (0.0, 0.1, 4.9, 5.0, 9.9):
            clock[0] = at
            assert (await conductor.simulate_get("/")).text == home.RELAY_GOOD.text
    assert reads == [0.0, 5.0]
