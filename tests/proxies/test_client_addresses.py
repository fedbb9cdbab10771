"""The client of a request is the address that connects to the proxy: no header of a client changes that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxies.running import Name, Proxy, Upstream, proxy, raw, read_all, status_of
from tests.support.live import LiveServer

# One failed request uses up a minute of an address.
LIMITED = {
    "SIGIL_RATE_LIMIT": "1/min",
    "TRUSTED_PROXY_IP": "127.0.0.1",
    "TRUSTED_PROXY_PROVIDER": "cloudflare",
    "USE_CF_CONNECTING_IP": "true",
    "TRUSTED_PROXY_RANGES_URL": "off",
}
CLOUDFLARE = "173.245.48.9"

# What a client writes to be counted as the client at {}.
FORMS = {
    "one address": ["X-Forwarded-For: {}"],
    "the proxy as the last hop": ["X-Forwarded-For: {}, 127.0.0.1"],
    "many hops of the proxy": ["X-Forwarded-For: {}" + ", 127.0.0.1" * 300],
    "many hops": ["X-Forwarded-For: " + "{}, " * 300 + "{}"],
    "two headers": ["X-Forwarded-For: {}", "X-Forwarded-For: {}"],
    "an empty header and another": ["X-Forwarded-For:", "X-Forwarded-For: {}"],
    "other case": ["x-fORWARDED-fOR: {}"],
    "an underscore": ["X_Forwarded_For: {}"],
    "a port": ["X-Forwarded-For: {}:443"],
    "IPv6": ["X-Forwarded-For: 2001:db8::7"],
    "IPv6 that holds IPv4": ["X-Forwarded-For: ::ffff:{}"],
    "brackets": ["X-Forwarded-For: [::ffff:{}]:443"],
    "unknown": ["X-Forwarded-For: unknown, {}"],
    "garbage": ["X-Forwarded-For: {}, \x80\xff;=,,, 1.2.3, 999.1.1.1, ::::"],
    "very long": ["X-Forwarded-For: {}, " + "x" * 6000],
    "white space": ["X-Forwarded-For: \t {} \t"],
    "X-Real-IP": ["X-Real-IP: {}"],
    "Forwarded": ["Forwarded: for={};proto=https;by=127.0.0.1", 'Forwarded: for="[::1]"'],
    "CF-Connecting-IP": ["CF-Connecting-IP: {}"],
    "CF-Connecting-IP and a hop of Cloudflare": ["CF-Connecting-IP: {}", f"X-Forwarded-For: {CLOUDFLARE}"],
    "a hop of Cloudflare and the proxy": ["CF-Connecting-IP: {}", f"X-Forwarded-For: {CLOUDFLARE}, 127.0.0.1"],
    "True-Client-IP": ["True-Client-IP: {}", "X-Client-IP: {}", "X-Cluster-Client-IP: {}"],
    "X-Forwarded-Host": ["X-Forwarded-Host: {}", "X-Forwarded-Proto: http", "X-Forwarded-Port: 80"],
    # A proxy that removes the headers that Connection names must not remove its own.
    "Connection names the header": ["Connection: close, X-Forwarded-For, X-Real-IP", "X-Forwarded-For: {}"],
}
_numbers = itertools.count(1)


# Also the nginx that passes Cloudflare's header on, of a client that does not come through Cloudflare.
FRONTS: list[tuple[Name, dict[str, str]]] = [("nginx", {}), ("caddy", {}), ("nginx", {"NGINX_CLOUDFLARE": "on"})]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, **LIMITED) as running:
        yield running
        # The warnings of a wrong setting stay silent in the configuration of this repository.
        assert not {line["event"] for line in running.log()} & {"trusted_client", "untrusted_proxy_header"}


@pytest.fixture(scope="module", params=FRONTS, ids=["nginx", "caddy", "nginx for Cloudflare"])
def limited(request: Any, server: LiveServer) -> Iterator[Proxy]:
    name, settings = request.param
    with proxy(name, Upstream(f"127.0.0.1:{server.port}", server.certificate), **settings) as running:
        yield running


def fail(running: Proxy, source: str, *lines: str) -> int:
    """The status of a request that the server rejects: 400, or 429 for a client over its limit."""
    with running.connect(source=source) as connection:
        connection.sendall(raw("POST", "/device/pending", *lines, body="{}"))
        response = read_all(connection)
    status, content = status_of(response), response.partition(b"\r\n\r\n")[2]
    expected = {400: b"INVALID_REQUEST", 429: b"RATE_LIMITED"}
    assert expected.get(status, b"?") in content, (running.name, response)
    return status


def address() -> str:
    """An address that no other request of this module came from."""
    number = next(_numbers)
    return f"127.9.{number // 250}.{number % 250 + 1}"


@pytest.mark.parametrize("form", FORMS)
def test_a_client_cannot_claim_another_address(limited: Proxy, form: str) -> None:
    source, victim = address(), address()

    def attempt(claimed: str) -> int:
        return fail(limited, source, *(line.replace("{}", claimed) for line in FORMS[form]))

    assert attempt(victim) == 400
    # The client that failed is limited, also where it claims to be another one.
    assert [attempt(address()) for _ in range(2)] == [429, 429]
    # The client that it claimed to be is not.
    assert fail(limited, victim) == 400


def test_a_client_of_ipv6_cannot_either(limited: Proxy) -> None:
    victim = address()
    # Its first failure uses up its limit, unless that was done through another proxy.
    fail(limited, "::1")
    lines = [[line.replace("{}", victim) for line in form] for form in FORMS.values()]
    assert [fail(limited, "::1", *form) for form in lines] == [429] * len(FORMS)
    assert fail(limited, victim) == 400


def test_clients_at_different_addresses_have_limits_of_their_own(limited: Proxy) -> None:
    assert [fail(limited, address()) for _ in range(10)] == [400] * 10
