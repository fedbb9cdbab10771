"""`provider_webpush` of the relay's doctor: off, without a contact, and hosts that it reaches or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.config import load
from relay.doctor import web_push
from relay.web_push_settings import new_key, vapid_key
from sigil.console.findings.result import Result
from tests.support.ports import free_port
from tests.support.push_service import FCM, MOZILLA, PushServiceThread

KEY = new_key()
CONTACT = "mailto:ops@sigil-relay.net"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a push service, which runs in a thread since the check blocks."""
    running = PushServiceThread(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(running.service.ca))
    yield running.port
    running.close()
    assert not running.service.received


def found(**settings: str) -> list[Result]:
    return list(web_push.check(load({"RELAY_WEBPUSH_KEY": KEY, "RELAY_WEBPUSH_CONTACT": CONTACT, **settings})))


def test_without_a_key_it_is_off() -> None:
    assert [(one.state, one.text) for one in web_push.check(load({}))] == [("ok", "off")]


def test_hosts_that_are_reached_and_the_public_key(service: int) -> None:
    (one,) = found(RELAY_WEBPUSH_HOSTS=f"{FCM}=127.0.0.1:{service} *.notify.windows.com")
    assert (one.state, "1 of 1" in one.text) == ("ok", True)
    assert vapid_key(KEY).public_text in one.text
    assert KEY not in one.text


def test_a_host_that_is_not_reached_is_named_and_all_of_them_are_a_failure(service: int) -> None:
    dead = f"{MOZILLA}=127.0.0.1:{free_port()}"
    one, rest = found(RELAY_WEBPUSH_HOSTS=f"{FCM}=127.0.0.1:{service} {dead}")
    assert (one.state, rest.state) == ("open", "ok")
    assert MOZILLA in one.text
    assert [result.state for result in found(RELAY_WEBPUSH_HOSTS=dead)] == ["failed"]


def test_a_certificate_of_another_name_is_named(service: int) -> None:
    (one,) = found(RELAY_WEBPUSH_HOSTS=f"push.sigil-relay.net=127.0.0.1:{service}")
    assert one.state == "failed"
    assert "certificate" in one.text


def test_a_missing_contact_is_open(service: int) -> None:
    contact, _ = found(RELAY_WEBPUSH_CONTACT="", RELAY_WEBPUSH_HOSTS=f"{FCM}=127.0.0.1:{service}")
    assert contact.state == "open"
    assert "RELAY_WEBPUSH_CONTACT" in contact.text
