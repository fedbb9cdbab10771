"""The client address that a request counts for, behind proxies and without them."""

from __future__ import annotations

import ipaddress
from typing import Any

import falcon.testing
import pytest
from falcon.asgi import Request

from sigil.serving.http.client_address import ClientAddresses, site_of

PROXY, OUTER_PROXY, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.9"
TRUSTED = [ipaddress.ip_network(PROXY), ipaddress.ip_network(OUTER_PROXY)]


def address(peer: str, *forwarded: str, header: str = "X-Forwarded-For", **options: Any) -> str:
    """Of a request from `peer` with one header line for each of `forwarded`."""
    scope = falcon.testing.create_scope()
    scope["client"] = (peer, 50_000)
    scope["headers"] = [(header.lower().encode(), line.encode("latin-1")) for line in forwarded]

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request"}

    options.setdefault("warn", lambda event, peer: None)
    return ClientAddresses(TRUSTED, **options).of(Request(scope, nothing))


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


CLOUDFLARE = "173.245.48.7"
CONNECTING_IP: dict[str, Any] = {"cloudflare": [ipaddress.ip_network("173.245.48.0/20")], "connecting_ip": True}


def through(peer: str, forwarded: str | None, connecting: str, **options: Any) -> str:
    """Of a request with X-Forwarded-For and CF-Connecting-IP."""
    lines = [(b"cf-connecting-ip", connecting.encode())]
    if forwarded is not None:
        lines.append((b"x-forwarded-for", forwarded.encode()))
    return ClientAddresses(TRUSTED, warn=lambda event, peer: None, **CONNECTING_IP | options).of_peer(peer, lines)


def test_the_header_of_cloudflare_counts_when_cloudflare_is_the_hop_before_the_own_proxies() -> None:
    assert through(CLOUDFLARE, None, CLIENT) == CLIENT
    assert through(CLOUDFLARE, "198.51.100.1, 198.51.100.2", CLIENT) == CLIENT
    assert through(PROXY, f"198.51.100.1, {CLOUDFLARE}", CLIENT) == CLIENT
    assert through(PROXY, f"{CLOUDFLARE}, {OUTER_PROXY}", f" {CLIENT} ") == CLIENT
    assert through(PROXY, f"{CLOUDFLARE}", "2001:db8:1:2::9") == "2001:db8:1:2::"


def test_a_client_that_reaches_the_own_proxy_directly_cannot_write_the_header_of_cloudflare() -> None:
    assert through(PROXY, CLIENT, "198.51.100.1") == CLIENT
    assert through(PROXY, f"{CLOUDFLARE}, {CLIENT}", "198.51.100.1") == CLIENT
    assert through(PROXY, None, "198.51.100.1") == PROXY, "what the client before this proxy is, nothing shows"
    assert through(CLIENT, CLOUDFLARE, "198.51.100.1") == CLIENT


@pytest.mark.parametrize("value", ["", "unknown", f"{CLIENT}, {CLIENT}"])
def test_without_one_valid_header_the_entry_that_cloudflare_appends_counts(value: str) -> None:
    assert through(PROXY, f"198.51.100.1, {CLIENT}, {CLOUDFLARE}", value) == CLIENT


def test_the_header_of_cloudflare_is_ignored_unless_it_is_turned_on() -> None:
    assert through(CLOUDFLARE, CLIENT, "198.51.100.1", connecting_ip=False) == CLIENT


def test_a_client_of_cloudflare_that_is_in_a_trusted_range_is_not_a_proxy() -> None:
    assert through(CLOUDFLARE, f"198.51.100.1, {PROXY}", OUTER_PROXY) == OUTER_PROXY


def test_a_chain_of_trusted_entries_is_read_for_sixteen_hops_at_most() -> None:
    chain = [CLIENT] + [PROXY] * 5000
    assert address(PROXY, ", ".join(chain)) == PROXY
    assert address(PROXY, ", ".join(chain[:16])) == CLIENT


@pytest.mark.parametrize(
    ("peer", "forwarded", "warnings"),
    [
        (PROXY, [], ["trusted_client"]),
        (PROXY, [OUTER_PROXY], ["trusted_client"]),
        (PROXY, [CLIENT], []),
        ("127.0.0.1", [], []),
        (CLIENT, [], []),
        (CLIENT, [PROXY], ["untrusted_proxy_header"]),
    ],
)
def test_a_client_in_a_trusted_range_is_warned_of_once(peer: str, forwarded: list[str], warnings: list[str]) -> None:
    warned: list[str] = []
    addresses = ClientAddresses(
        [*TRUSTED, ipaddress.ip_network("127.0.0.0/8")], warn=lambda event, peer: warned.append(event)
    )
    for _ in range(3):
        addresses.of_peer(peer, [(b"x-forwarded-for", entry.encode()) for entry in forwarded])
    assert warned == warnings


@pytest.mark.parametrize("peer", [PROXY, "127.0.0.1", "::1", CLOUDFLARE])
@pytest.mark.parametrize("header", ["x-real-ip", "forwarded", "x-forwarded-for", "x-forwarded-proto"])
def test_a_trusted_proxy_without_a_usable_header_is_warned_of_once(peer: str, header: str) -> None:
    warned: list[tuple[str, str]] = []
    trusted = [*TRUSTED, ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    cloudflare = [ipaddress.ip_network("173.245.48.0/20")]
    addresses = ClientAddresses(trusted, cloudflare=cloudflare, warn=lambda event, peer: warned.append((event, peer)))
    for _ in range(3):
        key = addresses.of_peer(peer, [(header.encode(), b"for=192.0.2.60")])
    assert warned == [("trusted_client", key)]


@pytest.mark.parametrize("header", ["x-real-ip", "forwarded"])
def test_an_untrusted_proxy_is_warned_of_by_each_header(header: str) -> None:
    warned: list[str] = []
    addresses = ClientAddresses(TRUSTED, warn=lambda event, peer: warned.append(event))
    for _ in range(3):
        assert addresses.of_peer(CLIENT, [(header.encode(), b"192.0.2.60")]) == CLIENT
    assert warned == ["untrusted_proxy_header"]


def test_a_client_of_this_host_behind_a_proxy_of_this_host_is_not_warned_of() -> None:
    warned: list[str] = []
    addresses = ClientAddresses([ipaddress.ip_network("127.0.0.0/8")], warn=lambda event, peer: warned.append(event))
    addresses.of_peer("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1"), (b"x-real-ip", b"127.0.0.1")])
    assert warned == []


@pytest.mark.parametrize(
    ("key", "site"),
    [
        ("2001:db8:1:2::", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::", "2001:db8:1::/48"),
        ("192.0.2.1", None),
        ("unix", None),
        ("", None),
    ],
)
def test_the_site_of_an_ipv6_network_is_its_48(key: str, site: str | None) -> None:
    assert site_of(key) == site
