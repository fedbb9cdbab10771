"""The client address that a request counts for, behind proxies and without them."""

from __future__ import annotations

import ipaddress
from typing import Any

import falcon.testing
import pytest
from falcon.asgi import Request

from sigil.serving.http.client_address import ClientAddresses

PROXY, OUTER_PROXY, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.9"
TRUSTED = [ipaddress.ip_network(PROXY), ipaddress.ip_network(OUTER_PROXY)]


def address(peer: str, *forwarded: str, header: str = "X-Forwarded-For", **options: Any) -> str:
    """Of a request from `peer` with one header line for each of `forwarded`."""
    scope = falcon.testing.create_scope()
    scope["client"] = (peer, 50_000)
    scope["headers"] = [(header.lower().encode(), line.encode("latin-1")) for line in forwarded]

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request"}

    return ClientAddresses(TRUSTED, on_untrusted=lambda peer: None, **options).of(Request(scope, nothing))


def test_without_a_proxy_the_peer_is_the_client() -> None:
    assert address(CLIENT) == CLIENT
    assert address(CLIENT, "198.51.100.1") == CLIENT


def test_the_nearest_address_that_is_not_a_trusted_proxy_is_the_client() -> None:
    assert address(PROXY, f"198.51.100.1, {CLIENT}, {OUTER_PROXY}") == CLIENT


def test_header_lines_that_proxies_add_count_in_their_order() -> None:
    assert address(PROXY, "198.51.100.1", CLIENT, OUTER_PROXY) == CLIENT


@pytest.mark.parametrize("entry", [f"{CLIENT}:50123", f" {CLIENT}:1 "])
def test_a_port_after_an_address_is_ignored(entry: str) -> None:
    assert address(PROXY, entry) == CLIENT


@pytest.mark.parametrize("written", ["2001:db8:1:2:3::4", "[2001:db8:1:2:3::4]", "[2001:DB8:1:2:9::]:443"])
def test_an_ipv6_client_counts_as_its_network_in_every_notation(written: str) -> None:
    assert address(PROXY, written) == "2001:db8:1:2::"


def test_an_ipv4_client_of_a_dual_stack_socket_is_an_ipv4_client() -> None:
    assert address(f"::ffff:{CLIENT}") == CLIENT


@pytest.mark.parametrize(
    "invalid", ["", "unknown", "_hidden", "1.2.3.4.5", "[::1", "1.2.3.4:port", "\xb2.1.1.1", "a" * 5000]
)
def test_entries_before_an_invalid_one_are_ignored(invalid: str) -> None:
    assert address(PROXY, f"198.51.100.1, {invalid}") == PROXY
    assert address(PROXY, f"198.51.100.1, {invalid}, {OUTER_PROXY}") == OUTER_PROXY


def test_behind_cloudflare_only_its_own_header_counts() -> None:
    assert address(PROXY, CLIENT, header="CF-Connecting-IP", cloudflare=True) == CLIENT
    assert address(PROXY, CLIENT, header="X-Forwarded-For", cloudflare=True) == PROXY
