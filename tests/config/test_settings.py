"""The settings of both services, read from one environment."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
from sigil.preflight.secrets import check_secret_file
from sigil.serving.bounded import files
from sigil.serving.settings import ConfigError

REQUIRED = {"SIGIL_MNEMONIC": "24 words"}


class RecordingEnviron(Mapping[str, str]):
    """An environment that records the names that are read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return REQUIRED[name]

    def __iter__(self) -> Iterator[str]:
        return iter(REQUIRED)

    def __len__(self) -> int:
        return len(REQUIRED)


def names_read_by(load: Callable[[Mapping[str, str]], Any]) -> set[str]:
    environ = RecordingEnviron()
    load(environ)
    return environ.read


def test_neither_service_warns_about_an_environment_for_both() -> None:
    names = names_read_by(sigil_config.load) | names_read_by(relay_config.load)
    assert {"RELAY_URL", "RELAY_PORT", "SIGIL_PORT"} < names
    shared = dict.fromkeys(names, "") | REQUIRED
    assert sigil_config.load(shared).warnings == ()
    assert relay_config.load(shared).warnings == ()


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("https://sigil.example.com", "https://sigil.example.com"),
        ("HTTPS://Sigil.Example.COM/", "https://sigil.example.com"),
        ("https://sigil.example.com:443", "https://sigil.example.com"),
        ("https://Sigil.example.com:8443", "https://sigil.example.com:8443"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_a_public_url_is_normalised_as_browsers_and_devices_write_it(given: str, normalised: str) -> None:
    """Otherwise the browser's Origin, or the origin that a device signs, would differ from the server's own."""
    assert sigil_config.load(REQUIRED | {"SIGIL_PUBLIC_URL": given}).public_url == normalised
    assert relay_config.load({"RELAY_PUBLIC_URL": given}).public_url == normalised


@pytest.mark.parametrize("given", ["http://sigil.example.com", "https://sigil.example.com/path", "https://:443", "x"])
def test_a_public_url_that_is_not_an_https_origin_stops_the_start(given: str) -> None:
    with pytest.raises(ConfigError, match="SIGIL_PUBLIC_URL"):
        sigil_config.load(REQUIRED | {"SIGIL_PUBLIC_URL": given})


@pytest.mark.parametrize("host", ["h..x", f"{'h' * 64}.example"])
def test_a_url_whose_host_is_no_name_stops_the_start(host: str) -> None:
    """The first connection would fail otherwise, or the start of every worker."""
    for name in ("APNS_URL", "FCM_URL", "RELAY_PUBLIC_URL"):
        with pytest.raises(ConfigError, match=f"{name}: must be a URL whose host has labels of 1 to 63 characters"):
            relay_config.load({name: f"https://{host}:8443"})


@pytest.mark.parametrize("token", ["fifteen-letters", "sixteen letters and blanks"])
def test_a_token_that_is_too_short_or_cannot_be_sent_stops_the_start(token: str) -> None:
    for load in (sigil_config.load, relay_config.load):
        with pytest.raises(ConfigError, match="METRICS_TOKEN: must have at least 16 visible") as raised:
            load(REQUIRED | {"METRICS_TOKEN": token})
        assert token not in str(raised.value)


def test_the_server_knows_every_setting_of_the_relay() -> None:
    """One file of settings often serves both: the server must not call the relay's settings unknown."""
    names = set(re.findall(r'"(RELAY_[A-Z_]+?)(?:_FILE)?"', Path(relay_config.__file__).read_text(encoding="utf-8")))
    assert len(names) > 10
    for name in names:
        warnings = sigil_config.load(REQUIRED | {name: "https://relay.example.com"}).warnings
        assert not any("is not a setting" in warning for warning in warnings), name


def test_both_services_warn_about_a_misspelt_name() -> None:
    warning = "RELAY_ULR is not a setting; did you mean RELAY_URL?"
    assert sigil_config.load(REQUIRED | {"RELAY_ULR": "x"}).warnings == (warning,)
    assert relay_config.load({"RELAY_ULR": "x"}).warnings == (warning,)


def test_a_name_is_suggested_only_if_it_is_similar() -> None:
    for name in ("SIGIL_FOO", "SIGIL_TEST"):
        warning = f"{name} is not a setting; docs/configuration.md lists them"
        assert sigil_config.load(REQUIRED | {name: "x"}).warnings == (warning,)
    warning = "RELAY_FOO is not a setting; docs/relay.md lists them"
    assert sigil_config.load(REQUIRED | {"RELAY_FOO": "x"}).warnings == (warning,)
    assert relay_config.load({"RELAY_FOO": "x"}).warnings == (warning,)


def test_the_https_port_has_no_effect_with_an_http_port() -> None:
    config = sigil_config.load(REQUIRED | {"SIGIL_HTTP_PORT": "8081", "SIGIL_PORT": "8443"})
    assert (config.port, config.http_only) == (8081, True)
    assert config.warnings == ("SIGIL_PORT has no effect while SIGIL_HTTP_PORT is set",)
    assert sigil_config.load(REQUIRED | {"SIGIL_HTTP_PORT": "8081"}).warnings == ()


def test_a_setting_that_is_not_implemented_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="SIGIL_STORE_URL: not implemented"):
        sigil_config.load(REQUIRED | {"SIGIL_STORE_URL": "redis://store"})
    assert sigil_config.load(REQUIRED | {"SIGIL_STORE_URL": ""}).warnings == ()


COMPUTED = "sgk_test_" + "0123456789abcdef" * 4


@pytest.mark.parametrize("key", [COMPUTED, COMPUTED.replace("test", "live"), COMPUTED.upper(), COMPUTED[:60]])
def test_a_preset_key_of_the_computed_form_is_warned_about_without_a_part_of_it(key: str) -> None:
    random = "a-random-key-of-32-characters-or-more"
    environ = {"API_KEY": f"{random},{key}"}
    revoked = environ | {"SIGIL_REVOKED_API_KEYS": COMPUTED[9:17]}
    for given, what in [(environ, "has the form of a computed key"), (revoked, "is revoked by SIGIL_REVOKED_API_KEYS")]:
        for warnings in (sigil_config.load(REQUIRED | given).warnings, sigil_config.load_renewed(given).warnings):
            assert len(warnings) == 1
            assert warnings[0].startswith(f"API_KEY: key number 2 {what}")
            assert COMPUTED[9:13] not in warnings[0].lower()
    assert sigil_config.load(REQUIRED | {"API_KEY": random}).warnings == ()


def test_revoked_devices_are_whole_fingerprints_also_at_a_reload(tmp_path: Path) -> None:
    first, second = "0a" * 32, "f" * 64
    listed = tmp_path / "lost"
    listed.touch(0o600)
    listed.write_text(f"{first}\n{second}\n")
    given = {"SIGIL_REVOKED_DEVICES_FILE": str(listed)}
    assert sigil_config.load(REQUIRED | given).revoked_devices == {first, second}
    assert sigil_config.load(REQUIRED).revoked_devices == frozenset()
    running = sigil_config.load(REQUIRED).attestation
    assert sigil_config.load_renewed(given, running).revoked_devices == {first, second}
    # The beginning of a fingerprint, as in the log, could be that of another device.
    for wrong in (first[:63], first.upper(), first[:8], f"{first};{second}"):
        for load in (
            lambda text: sigil_config.load(REQUIRED | {"SIGIL_REVOKED_DEVICES": text}),
            lambda text: sigil_config.load_renewed({"SIGIL_REVOKED_DEVICES": text}, running),
        ):
            with pytest.raises(ConfigError, match="SIGIL_REVOKED_DEVICES: must list whole fingerprints"):
                load(wrong)


def test_the_settings_of_enrolment() -> None:
    config = sigil_config.load(REQUIRED)
    assert (config.max_enrolments, config.enrol_without_code) == (1000, False)
    config = sigil_config.load(REQUIRED | {"SIGIL_MAX_ENROLMENTS": "5", "SIGIL_ENROL_WITHOUT_CODE": "true"})
    assert (config.max_enrolments, config.enrol_without_code) == (5, True)
    for wrong in ("0", "100001", "many"):
        with pytest.raises(ConfigError, match="SIGIL_MAX_ENROLMENTS"):
            sigil_config.load(REQUIRED | {"SIGIL_MAX_ENROLMENTS": wrong})


def test_the_settings_of_the_web_app() -> None:
    given = REQUIRED | {"SIGIL_PUBLIC_URL": "https://sigil.example.com"}
    config = sigil_config.load(given)
    assert (config.device_app_origin, config.web_plain_keys) == ("https://sigil.example.com", False)
    config = sigil_config.load(given | {"SIGIL_DEVICE_APP": "off", "SIGIL_WEB_PLAIN_KEYS": "true"})
    assert (config.device_app_origin, config.web_plain_keys) == (None, True)
    assert sigil_config.load(REQUIRED).device_app_origin is None


@pytest.mark.parametrize("name", ["Bank\u202e", "a\u00adb", "\u3164", "a\u206ab", "e" + "\u0301" * 9, "x" * 65])
def test_a_server_name_that_people_cannot_read_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match=r"SIGIL_SERVER_NAME: (must be|has U)"):
        sigil_config.load(REQUIRED | {"SIGIL_SERVER_NAME": name})
    assert sigil_config.load(REQUIRED | {"SIGIL_SERVER_NAME": "Zoë \U0001fadc"}).server_name == "Zoë \U0001fadc"


def test_a_pipe_without_a_writer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP reads these files in the master, which restarts no worker while it waits."""
    monkeypatch.setattr(files, "RELOAD_PIPE_SECONDS", 0.1)
    pipe = tmp_path / "keys"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigError) as raised:
        sigil_config.load_renewed({"API_KEY_FILE": str(pipe)})
    assert raised.value.lines == [f"API_KEY_FILE: cannot read {pipe}: a pipe without data for 0 s: use a file"]
    assert check_secret_file("API_KEY_FILE", pipe).state == "ok"


def test_the_output_of_a_command_is_read_whole() -> None:
    """As of a shell's <(command): it arrives in parts."""
    first, second = "a" * 40, "b" * 40
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "w") as file:
            for part in (f"{first},", second):
                file.write(part)
                file.flush()
                time.sleep(0.1)

    thread = threading.Thread(target=write)
    thread.start()
    found = sigil_config.load_renewed({"API_KEY_FILE": f"/dev/fd/{reader}"}).preset_keys
    thread.join(60)
    os.close(reader)
    assert [key.reveal() for key in found] == [first, second]
