"""The checks before a server is pinned, and the addresses that may be pinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sigil.device import IdentityRefused, verify_info
from sigil.device.errors import (
    AddressRefused,
    KeysSignatureInvalid,
    MalformedInfo,
    PinMismatch,
    ServerIdMismatch,
    ServerKeysDisagree,
    ServerKeyUnusable,
    ServerNotReady,
)
from sigil.device.http.origin import base_url, origin
from sigil.device.http.tls import TlsTrust
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import SUITES
from tests.device.fake_server import as_json, honest_info, identity

SERVER, OTHER = identity(1), identity(50)
URL = "https://auth.example.com"
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def info() -> dict[str, Any]:
    return honest_info(SERVER)


def with_keys(info: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Other keys, signed by the server itself."""
    changed = {name: key for name, key in (info["server_public_keys"] | keys).items() if key is not None}
    signature = SERVER.keys["ES256"].sign(signed_bytes.server_keys(changed))
    return info | {"server_public_keys": changed, "keys_signature": encode_base64(signature)}


LIES: dict[str, tuple[type[IdentityRefused], Change]] = {
    "no object": (MalformedInfo, lambda info: {"server_id": 1}),
    "a member is missing": (MalformedInfo, lambda info: {k: v for k, v in info.items() if k != "keys_signature"}),
    "init mode": (ServerNotReady, lambda _: {"mode": "init", "version": "1", "server_name": "x"}),
    "a key is missing": (ServerKeyUnusable, lambda info: with_keys(info, Ed25519=None)),
    "a key is no key": (ServerKeyUnusable, lambda info: with_keys(info, ES256K="AAAA")),
    "a key under another suite's name": (
        ServerKeyUnusable,
        lambda info: with_keys(info, ES256K=SERVER.server_public_keys["Ed25519"]),
    ),
    "two ES256 keys": (
        ServerKeysDisagree,
        lambda info: info | {"server_public_key": OTHER.server_public_keys["ES256"]},
    ),
    "another's server_id": (ServerIdMismatch, lambda info: info | {"server_id": OTHER.server_id}),
    "another's signature": (KeysSignatureInvalid, lambda info: info | {"keys_signature": OTHER.keys_signature}),
    "a signature that is none": (KeysSignatureInvalid, lambda info: info | {"keys_signature": "AAAA"}),
    "a key that the server did not sign": (
        KeysSignatureInvalid,
        lambda info: (
            info | {"server_public_keys": info["server_public_keys"] | {"Ed25519": OTHER.server_public_keys["Ed25519"]}}
        ),
    ),
}


@pytest.mark.parametrize(("error", "change"), LIES.values(), ids=LIES)
def test_a_wrong_member_of_info_is_rejected_with_its_own_error(
    info: dict[str, Any], error: type[IdentityRefused], change: Change
) -> None:
    with pytest.raises(IdentityRefused) as refused:
        verify_info(as_json(change(info)), URL)
    assert type(refused.value) is error


def test_an_honest_server_is_pinned_with_its_keys_and_address(info: dict[str, Any]) -> None:
    pin = verify_info(as_json(info), "HTTPS://Auth.Example.com:443/", tls=TlsTrust(sha256="ab" * 32))
    assert (pin.base_url, pin.server_id, pin.server_name) == (URL, SERVER.server_id, "Fake")
    assert pin.tls.sha256 == "ab" * 32
    assert {suite: pin.key(suite) for suite in SUITES} == {s: key.public for s, key in SERVER.keys.items()}


def test_keys_of_unknown_suites_are_covered_by_the_signature_and_not_pinned(info: dict[str, Any]) -> None:
    pin = verify_info(as_json(with_keys(info, ES512="AAAA")), URL)
    assert set(pin.server_public_keys) == set(SUITES)


def test_the_full_server_id_is_compared_with_the_pin(info: dict[str, Any]) -> None:
    assert verify_info(as_json(info), URL, pin=SERVER.server_id)
    for wrong in (OTHER.server_id, SERVER.server_id[:-1] + "x", SERVER.server_id[:32], ""):
        with pytest.raises(PinMismatch):
            verify_info(as_json(info), URL, pin=wrong)


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.Example:443/", "https://a.example"),
        ("https://a.example:08443", "https://a.example:8443"),
        ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_normalised(url: str, normalised: str) -> None:
    assert base_url(url) == normalised


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://a.example/path",
        "https://a.example?x",
        "https://a.example#x",
        "https://user@a.example",
        "https://a.example\\@b.example",
        "https://a.example\n",
        " https://a.example",
        "https://a.exa\tmple",
        "https://a%2eexample",
        "https://ä.example",
        "https://a.example:0",
        "https://a.example:65536",
        "https://a.example:",
        "https://[::g]",
        "http://a.example",
        "http://localhost.evil.example",
        "http://127.1",
        "http://10.0.0.1",
        "http://[::ffff:10.0.0.1]",
    ],
)
def test_a_malformed_or_unsafe_address_is_rejected(url: str) -> None:
    with pytest.raises(AddressRefused):
        base_url(url)


def test_an_origin_may_have_a_path() -> None:
    assert origin("https://a.example:8443/respond?x=1#y") == "https://a.example:8443"
