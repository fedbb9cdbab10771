"""What may be listened on: the same forms for both services, their health checks and the webhook listener."""

from __future__ import annotations

import socket

import pytest

from relay import address as relay_address
from sigil.config import address as sigil_address
from sigil.serving.addresses import listen_host as module
from sigil.serving.addresses.listen_host import listen_host, reachable
from sigil.serving.process.listeners import close, listen
from sigil.serving.settings import ConfigError, EnvReader

GOOD = {
    "0": ("0.0.0.0", "127.0.0.1"),
    "0.0.0.0": ("0.0.0.0", "127.0.0.1"),
    "127.1": ("127.0.0.1", "127.0.0.1"),
    "127.0.0.2": ("127.0.0.2", "127.0.0.2"),
    "*": ("::", "::1"),
    "::": ("::", "::1"),
    "[::]": ("::", "::1"),
    "0:0:0:0:0:0:0:0": ("::", "::1"),
    "::1": ("::1", "::1"),
    "[::1]": ("::1", "::1"),
    "localhost": ("localhost", "localhost"),
    "LocalHost": ("localhost", "localhost"),
}
NAMES = ["fe80::1%eth0", "sigil_app.internal", "3f2a1b9c0d1e", "auth.example.com."]
BAD = [
    "127.0.0.1:8443", "[::1]:8443", "[::1", "::1]", "[127.0.0.1]", ":::", "https://127.0.0.1", "tcp://10.0.0.1:8443",
    "256.1.1.1", "1.2.3.4.5", "010.0.0.1", "0x7f.1", "99999999999", "a b", "-a", "a-.b", "a..b", "'::1'", "*.example",
    "bücher", "a" * 64, "a/b",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_a_listener_on_each_form_is_reached_by_the_health_check(text: str, expected: tuple[str, str]) -> None:
    host = listen_host(text)
    assert (host, reachable(host)) == expected
    assert listen_host(host) == host
    listeners = listen(host, 0, 1, 1, port_setting="PORT")
    try:
        port = listeners[0].getsockname()[1]
        socket.create_connection((reachable(host), port), timeout=60).close()
        if host == "::":
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
    finally:
        close(listeners)


@pytest.mark.parametrize("text", NAMES)
def test_names_and_zones_stay_as_they_are(text: str) -> None:
    assert listen_host(text) == text
    assert reachable(text) == text


@pytest.mark.parametrize("text", BAD)
def test_any_other_text_is_one_line_that_says_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be an address of this host such as .*\* for all addresses; the port"):
        listen_host(text)


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_ipv6", lambda: False)
    assert listen_host("*") == "0.0.0.0"
    assert reachable("::") == "127.0.0.1"


def test_both_services_and_their_health_checks_read_the_same_forms() -> None:
    assert sigil_address.read_address(EnvReader({"SIGIL_HOST": "[::1]"})).host == "::1"
    assert relay_address.read_address(EnvReader({"RELAY_HOST": "[::1]"})).host == "::1"
    assert sigil_address.own_server({"SIGIL_HOST": "*"}).origin == "https://[::1]:8443"
    assert relay_address.own_relay({"RELAY_HOST": "127.1"}).origin == "http://127.0.0.1:8080"
    with pytest.raises(ConfigError, match="SIGIL_HOST: must be an address"):
        sigil_address.own_server({"SIGIL_HOST": "127.0.0.1:80"})
    with pytest.raises(ConfigError, match="RELAY_HOST: must be an address"):
        relay_address.own_relay({"RELAY_HOST": "127.0.0.1:80"})
