"""The arguments of the clients: accepted and rejected ones."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.sdk import AsyncSigilAuth, ConfigurationError, SigilAuth
from tests.sdk.conftest import SOME_KEY, write

URL = "https://auth.example.com"
PRESET = "a-pre-set-key-of-32-characters-!"
PIN = "00" * 32


@pytest.fixture(params=[SigilAuth, AsyncSigilAuth])
def client(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("name", ["api_key", "key", "token", "apikey", "API_KEY", "client_secret", "password"])
def test_a_key_is_not_taken_as_an_argument(client: Any, name: str) -> None:
    for value in (SOME_KEY, PRESET, "", None):
        with pytest.raises(ConfigurationError, match="keys in source code get committed") as refused:
            client(URL, tls_pin=PIN, **{name: value})
        assert "SIGIL_API_KEY" in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ((SOME_KEY,), {}),
        ((URL, SOME_KEY), {}),
        ((URL, "anything"), {}),
        ((f"https://{SOME_KEY}@auth.example.com",), {}),
        ((), {"service_url": f"{URL}/?k={SOME_KEY.upper()}"}),
        ((URL,), {"tls_pin": SOME_KEY}),
        ((URL,), {"headers": {"Authorization": f"Bearer {SOME_KEY}"}}),
        ((URL,), {"options": SOME_KEY.encode()}),
    ],
)
def test_a_key_is_detected_in_every_argument(client: Any, arguments: tuple[tuple[str, ...], dict[str, Any]]) -> None:
    with pytest.raises(ConfigurationError, match="keys in source code get committed") as refused:
        client(*arguments[0], **arguments[1])
    assert SOME_KEY not in str(refused.value)


def test_a_pre_set_key_is_detected_too(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", PRESET)
    with pytest.raises(ConfigurationError, match="keys in source code get committed"):
        client(PRESET)
    with pytest.raises(ConfigurationError, match="keys in source code get committed"):
        client(URL, headers={"Authorization": f"Bearer {PRESET}"})


@pytest.mark.parametrize("value", [SOME_KEY, SOME_KEY.replace("test", "live"), PRESET, f" {SOME_KEY}\n"])
def test_the_key_comes_from_the_environment(client: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", value)
    client(URL, tls_pin=PIN)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "short",
        SOME_KEY[:-1],
        SOME_KEY + "0",
        f"'{SOME_KEY}'",
        f"{SOME_KEY},{SOME_KEY}",
        SOME_KEY.replace("a", "A"),
        f"SIGIL_API_KEY={SOME_KEY}",
        "thirty-two characters with blanks",
        "ü" * 32,
    ],
)
def test_a_malformed_key_is_rejected_and_not_repeated(client: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", value)
    with pytest.raises(ConfigurationError, match="SIGIL_API_KEY") as refused:
        client(URL, tls_pin=PIN)
    assert not value.strip() or value.strip() not in str(refused.value)


def test_a_missing_key_names_the_environment_variable(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGIL_API_KEY")
    with pytest.raises(ConfigurationError, match="SIGIL_API_KEY is not set"):
        client(URL, tls_pin=PIN)


@pytest.mark.parametrize("content", [SOME_KEY, f"{SOME_KEY}\n", f"\ufeff{SOME_KEY}\r\n", PRESET])
def test_the_key_may_come_from_a_file(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.delenv("SIGIL_API_KEY")
    monkeypatch.setenv("SIGIL_API_KEY_FILE", str(write(tmp_path / "key", content)))
    made = client(URL, tls_pin=PIN)
    assert made._parts.http.key.authorization() == f"Bearer {content.strip(chr(0xFEFF)).strip()}"
    with pytest.raises(ConfigurationError, match="keys in source code get committed"):
        client(content.strip())


def test_the_key_may_come_from_a_pipe(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a shell's <(pass show sigil): it can be read once."""
    monkeypatch.delenv("SIGIL_API_KEY")
    reading, writing = os.pipe()
    try:
        monkeypatch.setenv("SIGIL_API_KEY_FILE", f"/dev/fd/{reading}")
        os.write(writing, SOME_KEY.encode())
        os.close(writing)
        client(URL, tls_pin=PIN)
    finally:
        os.close(reading)


def test_a_pipe_that_stays_silent_is_given_up(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SIGIL_API_KEY")
    monkeypatch.setattr("sigil.sdk.environment._PIPE_SECONDS", 0.1)
    reading, writing = os.pipe()
    try:
        monkeypatch.setenv("SIGIL_API_KEY_FILE", f"/dev/fd/{reading}")
        with pytest.raises(ConfigurationError, match="a pipe without data"):
            client(URL, tls_pin=PIN)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfes\x00g\x00", b"k" * 5000, SOME_KEY.encode() * 2])
def test_a_malformed_key_file_is_named_and_not_repeated(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    monkeypatch.delenv("SIGIL_API_KEY")
    monkeypatch.setenv("SIGIL_API_KEY_FILE", str(path))
    with pytest.raises(ConfigurationError, match=f"SIGIL_API_KEY_FILE: {path}") as refused:
        client(URL, tls_pin=PIN)
    assert SOME_KEY not in str(refused.value)


def test_a_key_file_that_cannot_be_read_is_named(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SIGIL_API_KEY")
    for path in (tmp_path, tmp_path / "absent"):
        monkeypatch.setenv("SIGIL_API_KEY_FILE", str(path))
        with pytest.raises(ConfigurationError, match=r"SIGIL_API_KEY_FILE: .* cannot be read: (Is a|No such)"):
            client(URL, tls_pin=PIN)


def test_a_key_and_its_file_exclude_each_other(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGIL_API_KEY_FILE", str(write(tmp_path / "key", SOME_KEY)))
    with pytest.raises(ConfigurationError, match="both set: keep one"):
        client(URL, tls_pin=PIN)


def test_the_certificate_file_may_come_from_the_environment(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIGIL_CA_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match=r"ca_file \(or SIGIL_CA_FILE\) cannot be read"):
        client(URL)
    client(URL, tls_pin=PIN)
    monkeypatch.setenv("SIGIL_CA_FILE", "")
    client(URL)


@pytest.mark.parametrize("name", ["verify", "verify_ssl", "insecure", "skip_verify"])
def test_verification_cannot_be_switched_off(client: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ca_file .* or tls_pin"):
        client(URL, **{name: False})


def test_an_unknown_argument_is_named(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="Unknown arguments: time_out"):
        client(URL, time_out=3)


@pytest.mark.parametrize("url", ["http://auth.example.com", "http://10.0.0.1", "http://localhost.example", "HTTP://a"])
def test_plain_http_is_for_this_machine_alone(client: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="must begin with https://"):
        client(url)
    for local in ("http://localhost:8443", "http://127.0.0.1:8443", "http://[::1]:8443"):
        assert client(local).service_url == local


@pytest.mark.parametrize(
    "url",
    [
        "",
        "auth.example.com",
        "https://",
        "https://user:pw@auth.example.com",
        "https://auth.example.com/path",
        "https://auth.example.com:0",
        "https://auth.example.com:70000",
        "https://[::zz]",
        "https://[1:2]",
        "https://a b",
        "https://auth.example.com\n",
        "https://a\\@b",
        "ftp://auth.example.com",
    ],
)
def test_an_address_that_is_not_an_origin_is_rejected(client: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="service_url"):
        client(url, tls_pin=PIN)


def test_the_address_may_come_from_the_environment(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_SERVICE_URL", "HTTPS://Auth.Example.com:08443/")
    assert "https://auth.example.com:8443>" in repr(client(tls_pin=PIN))
    assert "[::1]" in repr(client("https://[0:0::1]", tls_pin=PIN))


@pytest.mark.parametrize("pin", ["", "00", "0" * 63, "g" * 64, ":".join(["00"] * 31)])
def test_a_pin_is_a_complete_sha256(client: Any, pin: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hex digits"):
        client(URL, tls_pin=pin)


def test_a_pin_and_a_certificate_file_exclude_each_other(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        client(URL, tls_pin=PIN, ca_file=tmp_path)


def test_a_certificate_file_must_hold_a_certificate(client: Any, tmp_path: Path) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for path in (tmp_path, tmp_path / "absent", *_files(tmp_path, "", "no PEM", broken, "ü")):
        with pytest.raises(ConfigurationError, match="ca_file"):
            client(URL, ca_file=path)


def test_a_certificate_file_is_read_with_a_bound(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigil.sdk.environment._PIPE_SECONDS", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(ConfigurationError, match="a pipe without data"):
            client(URL, ca_file=pipe)
    finally:
        os.close(writer)
    with pytest.raises(ConfigurationError, match="it is larger than"):
        client(URL, ca_file="/dev/zero")


def test_a_wrong_key_that_is_part_of_the_address_is_named_as_wrong(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", "auth")
    with pytest.raises(ConfigurationError, match="SIGIL_API_KEY must hold one API key"):
        client(URL)


@pytest.mark.parametrize("name", ["service_url", "ca_file", "tls_pin"])
def test_an_argument_of_another_type_is_named(client: Any, name: str) -> None:
    for value in (b"x", 5, httpx.URL(URL), [], True):
        with pytest.raises(ConfigurationError, match=f"{name} must be a string"):
            client(**{"service_url": URL, name: value})


def _files(folder: Path, *texts: str) -> list[Path]:
    return [write(folder / f"{number}.pem", text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("timeout", "tries", "max_connections") for value in (0, -1, "3", None, True, 1e309)],
)
def test_limits_are_positive_numbers(client: Any, name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        client(URL, tls_pin=PIN, **{name: value})


def test_both_clients_have_the_same_methods() -> None:
    from sigil.sdk import AsyncAuth, Auth

    names = [name for name in vars(Auth) if not name.startswith("_")]
    assert names == [name for name in vars(AsyncAuth) if not name.startswith("_")]
    for name in names:
        assert inspect.signature(getattr(Auth, name)) == inspect.signature(getattr(AsyncAuth, name))
