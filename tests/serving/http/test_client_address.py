"""Whose address a request counts for, behind proxies and without them."""

from __future__ import annotations

import ipaddress
from typing import Any

import falcon.testing
import pytest
from falcon.asgi import Request

from sigil.serving.http.client_address import ClientAddresses

PROXY, OUTER_PROXY, STRANGER = "10.0.0.1", "10.0.0.2", "203.0.113.9"
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
    assert address(STRANGER) == STRANGER
    assert address(STRANGER, "198.51.100.1") == STRANGER


def test_the_nearest_address_that_is_no_trusted_proxy_is_the_client() -> None:
    assert address(PROXY, f"198.51.100.1, {STRANGER}, {OUTER_PROXY}") == STRANGER


def test_lines_that_proxies_add_count_in_their_order() -> None:
    assert address(PROXY, "198.51.100.1", STRANGER, OUTER_PROXY) == STRANGER


@pytest.mark.parametrize("behind", [f"{STRANGER}:50123", f" {STRANGER}:1 "])
def test_a_port_behind_an_address_makes_no_difference(behind: str) -> None:
    assert address(PROXY, behind) == STRANGER


@pytest.mark.parametrize("written", ["2001:db8:1:2:3::4", "[2001:db8:1:2:3::4]", "[2001:DB8:1:2:9::]:443"])
def test_an_ipv6_client_is_its_network_however_it_is_written(written: str) -> None:
    assert address(PROXY, written) == "2001:db8:1:2::"


def test_an_ipv4_client_of_a_socket_for_both_is_an_ipv4_client() -> None:
    assert address(f"::ffff:{STRANGER}") == STRANGER


@pytest.mark.parametrize(
    "rubbish", ["", "unknown", "_hidden", "1.2.3.4.5", "[::1", "1.2.3.4:port", "\xb2.1.1.1", "a" * 5000]
)
def test_what_is_no_address_hides_what_a_stranger_wrote_before_it(rubbish: str) -> None:
    assert address(PROXY, f"198.51.100.1, {rubbish}") == PROXY
    assert address(PROXY, f"198.51.100.1, {rubbish}, {OUTER_PROXY}") == OUTER_PROXY


def test_behind_cloudflare_its_own_header_counts_and_the_other_does_not() -> None:
    assert address(PROXY, STRANGER, header="CF-Connecting-IP", cloudflare=True) == STRANGER
    assert address(PROXY, STRANGER, header="X-Forwarded-For", cloudflare=True) == PROXY
