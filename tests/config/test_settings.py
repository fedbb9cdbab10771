"""The settings of both services, as they are read from one environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from relay import config as of_relay
from sigil.config import settings as of_sigil
from sigil.serving.settings import ConfigError

NEEDED = {"SIGIL_MNEMONIC": "24 words"}


class Watched(Mapping[str, str]):
    """An environment that notes which names it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return NEEDED[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NEEDED)

    def __len__(self) -> int:
        return len(NEEDED)


def names_of(load: Callable[[Mapping[str, str]], Any]) -> set[str]:
    environ = Watched()
    load(environ)
    return environ.asked


def test_one_environment_for_both_services_is_warned_about_by_neither() -> None:
    names = names_of(of_sigil.load) | names_of(of_relay.load)
    assert {"RELAY_URL", "RELAY_PORT", "SIGIL_PORT"} < names
    shared = dict.fromkeys(names, "") | NEEDED
    assert of_sigil.load(shared).warnings == ()
    assert of_relay.load(shared).warnings == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://sigil.example.com", "https://sigil.example.com"),
        ("HTTPS://Sigil.Example.COM/", "https://sigil.example.com"),
        ("https://sigil.example.com:443", "https://sigil.example.com"),
        ("https://Sigil.example.com:8443", "https://sigil.example.com:8443"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_a_public_address_is_read_as_browsers_and_devices_write_it(given: str, read: str) -> None:
    """Else the browser's Origin, or the origin that a device signs, would be another than the server's own."""
    assert of_sigil.load(NEEDED | {"SIGIL_PUBLIC_URL": given}).public_url == read
    assert of_relay.load({"RELAY_PUBLIC_URL": given}).public_url == read


@pytest.mark.parametrize("given", ["http://sigil.example.com", "https://sigil.example.com/path", "https://:443", "x"])
def test_a_public_address_that_is_no_https_origin_stops_the_start(given: str) -> None:
    with pytest.raises(ConfigError, match="SIGIL_PUBLIC_URL"):
        of_sigil.load(NEEDED | {"SIGIL_PUBLIC_URL": given})


@pytest.mark.parametrize("token", ["fifteen-letters", "sixteen letters and blanks"])
def test_a_token_that_is_easily_guessed_or_cannot_be_sent_stops_the_start(token: str) -> None:
    for load in (of_sigil.load, of_relay.load):
        with pytest.raises(ConfigError, match="METRICS_TOKEN: has at least 16 visible") as refused:
            load(NEEDED | {"METRICS_TOKEN": token})
        assert token not in str(refused.value)


def test_a_misspelt_name_is_warned_about_by_the_service_whose_it_looks_like() -> None:
    told = "RELAY_ULR is not a setting; did you mean RELAY_URL?"
    assert of_sigil.load(NEEDED | {"RELAY_ULR": "x"}).warnings == (told,)
    assert of_relay.load({"RELAY_ULR": "x"}).warnings == (told,)


@pytest.mark.parametrize("name", ["SIGIL_ATTESTATION_REQUIRED", "SIGIL_ALLOW_EMULATORS"])
def test_what_is_not_built_stops_the_start_however_it_is_asked_for(name: str) -> None:
    for asked in ("true", "TRUE", "1", "yes", "on"):
        with pytest.raises(ConfigError, match=f"{name}: not built yet"):
            of_sigil.load(NEEDED | {name: asked})
    for misspelt in ("ture", "required", "enabled"):
        with pytest.raises(ConfigError, match=f"{name}: is true or false"):
            of_sigil.load(NEEDED | {name: misspelt})
    for declined in ("false", "0", "no", "off", ""):
        assert of_sigil.load(NEEDED | {name: declined}).warnings == ()
