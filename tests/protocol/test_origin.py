"""One grammar of an origin: server, relay, device and SDK accept and reject the same addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from falcon.testing import create_asgi_req
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import config as relay_config
from relay.registration.origins import Origins
from sigil.config import settings as sigil_config
from sigil.device.errors import AddressRefused
from sigil.device.http.origin import base_url
from sigil.device.http.origin import origin as origin_in_device
from sigil.device.http.origin import relay_origin as relay_in_device
from sigil.protocol.errors import OriginRefused
from sigil.protocol.origin import NotAnOrigin, parse_origin, relay_origin, server_origin, web_origin
from sigil.resources.origin_check import OriginCheck
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.http.address import service_origin
from sigil.serving.settings import ConfigError

from .vectors import cases

REQUIRED = {"SIGIL_MNEMONIC": "x"}
REJECTED = (ConfigError, AddressRefused, ConfigurationError, NotAnOrigin)


def _of(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except REJECTED:
        return None


SERVER: dict[str, Callable[[str], Any]] = {
    "SIGIL_PUBLIC_URL": lambda text: sigil_config.load(REQUIRED | {"SIGIL_PUBLIC_URL": text}).public_url,
    "device --server": base_url,
    "SDK": service_origin,
    "protocol": server_origin,
}
RELAY: dict[str, Callable[[str], Any]] = {
    "RELAY_URL": lambda text: sigil_config.load(REQUIRED | {"RELAY_URL": text}).relay_url,
    "RELAY_PUBLIC_URL of the server": lambda text: (
        sigil_config.load(REQUIRED | {"RELAY_PUBLIC_URL": text}).relay_public_url
    ),
    "RELAY_PUBLIC_URL of the relay": lambda text: relay_config.load({"RELAY_PUBLIC_URL": text}).public_url,
    "device --relay": lambda text: relay_in_device(text, any_http=True),
    "protocol": relay_origin,
}


def _differences(kind: str, readers: dict[str, Callable[[str], Any]]) -> list[tuple[str, str, Any]]:
    return [
        (name, case["text"], got)
        for case in cases("origins.json")
        for name, read in readers.items()
        # The blanks around a value of a variable are not part of it, and an empty variable is not set.
        if ("_URL" not in name or (case["text"] and case["text"].strip() == case["text"]))
        and (got := _of(read, case["text"])) != case[kind]
    ]


def test_every_side_accepts_and_rejects_the_vectors() -> None:
    assert _differences("server", SERVER) == []
    assert _differences("relay", RELAY) == []


label = st.text(st.sampled_from("aZ09-_.ü\u200b"), max_size=4)
host = (
    st.lists(label, min_size=1, max_size=3).map(".".join)
    | st.ip_addresses().map(lambda ip: str(ip) if ip.version == 4 else f"[{ip}]")
    | st.sampled_from(["localhost", "127.0.0.1", "[::1]", "10.0.0.1", "127.1", "[::ffff:127.0.0.1]", "a."])
)
address = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "ws://", "https:/", "x"]),
    host,
    st.sampled_from(["", "", ":1", ":80", ":443", ":0", ":65536", ":", ":01"]),
    st.sampled_from(["", "", "/", "/x", "?", "#", "\\", " x"]),
)


@settings(max_examples=300, deadline=None)
@given(address)
def test_what_one_side_accepts_the_others_accept(text: str) -> None:
    for readers in (SERVER, RELAY):
        results = {name: _of(read, text) for name, read in readers.items()}
        assert len(set(results.values())) == 1, results


@settings(max_examples=300, deadline=None)
@given(address)
def test_the_canonical_form_is_the_one_spelling_of_itself(text: str) -> None:
    canonical = _of(relay_origin, text)
    if canonical is not None:
        assert relay_origin(canonical) == canonical
        assert origin_in_device(f"{canonical}/respond") == canonical


@pytest.mark.parametrize("text", ["https://auth.example.com", "https://auth:8443", "http://localhost:8080"])
def test_web_devices_exist_for_https_with_a_name_and_for_localhost(text: str) -> None:
    assert web_origin(text) == text


@pytest.mark.parametrize("text", [None, "https://192.0.2.1", "https://[2001:db8::1]:8443", "http://127.0.0.1:8080"])
def test_web_devices_do_not_exist_elsewhere(text: str | None) -> None:
    assert web_origin(text) is None


def test_a_relay_without_a_public_url_has_the_origin_that_the_device_signs() -> None:
    """The relay makes it of the Host header, the device of the address that it dials."""
    relay = Origins(None)
    for case in cases("origins.json"):
        if case["relay"]:
            parsed = parse_origin(case["text"])
            host = f"{parsed.host}:{parsed.port}".encode()
            for scheme in (parsed.scheme, {"http": "ws", "https": "wss"}[parsed.scheme]):
                assert relay.of({"scheme": scheme, "headers": [(b"host", host)]}) == case["relay"]
    for host in (b"", b"a b", b"\xff", b"a/b", b"user@a"):
        assert relay.of({"scheme": "https", "headers": [(b"host", host)]}) == ""


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://auth_x.example.com", "underscore"),
        ("https://auth.example.com.", "dot at its end"),
        ("https://b\u00fccher.example", "xn--"),
        ("https://auth.example.com:0", "port from 1 to 65535"),
        ("https://auth exa.com", "without blanks"),
        ("https://auth\u200b.com", "U\\+200B \\(ZERO WIDTH SPACE\\) at line 1, character 13"),
        ("http://auth.example.com", "http://localhost in development"),
        ("https://auth.example.com/x", "without a path"),
        ("https://u:p@auth.example.com", "without user and password"),
        ("'https://auth.example.com'", "is in quotes"),
        ("https://127.1", "four decimal numbers"),
    ],
)
def test_the_line_says_what_to_correct(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"^SIGIL_PUBLIC_URL: .*{hint}"):
        sigil_config.load(REQUIRED | {"SIGIL_PUBLIC_URL": text})
    with pytest.raises(AddressRefused, match=hint):
        base_url(text)
    with pytest.raises(ConfigurationError, match=hint) as refused:
        service_origin(text)
    # It may be more than an address: a user pastes the wrong line.
    assert text not in str(refused.value)


def test_a_relay_address_that_devices_refuse_is_a_warning() -> None:
    for load, required in ((sigil_config.load, REQUIRED), (relay_config.load, {})):
        for url in ("http://relay.example.com", "http://8.8.8.8:8080"):
            warnings = load(required | {"RELAY_PUBLIC_URL": url}).warnings
            assert [line for line in warnings if line.startswith("RELAY_PUBLIC_URL: devices accept plain http")]
        for url in ("http://localhost:8080", "http://192.168.1.9", "https://relay.example.com"):
            warnings = load(required | {"RELAY_PUBLIC_URL": url}).warnings
            assert not [line for line in warnings if "RELAY_PUBLIC_URL" in line]


@pytest.mark.parametrize(
    "host", ["auth_x.example.com", "auth.example.com.", "auth.example.com:0", "[::1%eth0]", "127.1"]
)
def test_the_wizard_shows_no_address_that_a_device_refuses(host: str) -> None:
    """The page takes its base_url from the Host."""
    check = OriginCheck(scheme="https", public_url=None, any_name=True, loopback_only=False)
    with pytest.raises(OriginRefused):
        check.check(create_asgi_req(host=host))
    assert check.check(create_asgi_req(host="Auth.example.com:8443")) == "auth.example.com:8443"
