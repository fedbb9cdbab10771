"""The settings of webhooks: the URL, the secrets, the schedule. Each wrong value stops the start with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sigil.config.settings import load, load_webhook
from sigil.config.webhooks import WebhookTarget
from sigil.serving.settings import ConfigError

MNEMONIC = {"SIGIL_MNEMONIC": "any words: another module checks them"}
SECRET, OLD = "s" * 32, "o" * 40
URL = "https://example.com/hooks/sigil?token=a%2Fb"


def target(**environ: str) -> WebhookTarget | None:
    return load(MNEMONIC | environ).webhook


def faults(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(MNEMONIC | environ)
    return raised.value.lines


def test_without_a_url_there_are_no_webhooks() -> None:
    assert target() is None
    assert target(WEBHOOK_SECRET=SECRET) is None


def test_a_url_with_a_secret_is_enough() -> None:
    found = target(WEBHOOK_URL=URL, WEBHOOK_SECRET=SECRET)
    assert found is not None
    assert found.url.reveal() == URL
    assert [secret.reveal() for secret in found.secrets] == [SECRET]
    assert found.schedule == (1, 5, 30, 120, 600, 1800)


def test_repr_shows_neither_the_url_nor_the_secret(tmp_path: Path) -> None:
    config = load(MNEMONIC | {"WEBHOOK_URL": URL, "WEBHOOK_SECRET": SECRET})
    assert SECRET not in repr(config)
    assert "hooks/sigil" not in repr(config)


def test_url_and_secret_may_come_from_files(tmp_path: Path) -> None:
    for name, content in (("url", URL), ("secret", f"{SECRET},{OLD}\n")):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(content)
    found = target(WEBHOOK_URL_FILE=str(tmp_path / "url"), WEBHOOK_SECRET_FILE=str(tmp_path / "secret"))
    assert found is not None
    assert [secret.reveal() for secret in found.secrets] == [SECRET, OLD]


def test_the_new_secret_comes_first() -> None:
    found = target(WEBHOOK_URL=URL, WEBHOOK_SECRET=f"{SECRET}, {OLD}")
    assert found is not None
    assert [secret.reveal() for secret in found.secrets] == [SECRET, OLD]


def test_a_url_without_a_secret_stops_the_start() -> None:
    (line,) = faults(WEBHOOK_URL=URL)
    assert "WEBHOOK_SECRET" in line
    assert "32" in line


@pytest.mark.parametrize(
    "secret",
    ["short", "x" * 31, f"{SECRET},short", f"{SECRET},", ",", f"{SECRET},{OLD},{SECRET}", "whsec_" + "!" * 40],
)
def test_an_unusable_secret_stops_the_start_with_one_line_that_does_not_repeat_it(secret: str) -> None:
    (line,) = faults(WEBHOOK_URL=URL, WEBHOOK_SECRET=secret)
    assert line.startswith("WEBHOOK_SECRET: ")
    assert secret == "," or secret not in line


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/", "http://localhost/", "http://[::1]:9000/x", "http://10.0.0.7/x",
        "http://192.168.1.20:8080", "http://[fd00::7]/x", "http://receiver:8080/x", "https://8.8.8.8/",
        "https://example.com", URL,
    ],
)  # fmt: skip
def test_https_may_go_anywhere_and_http_to_loopback_private_addresses_and_names(url: str) -> None:
    found = target(WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)
    assert found is not None
    assert found.url.reveal() == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://8.8.8.8/", "https"),
        ("http://169.254.169.254/latest", "https"),
        ("http://0.0.0.0/", "https"),
        ("http://[2001:db8::1]/", "https"),
        ("https://user:password@example.com/", "no user and password"),
        ("https://user@example.com/", "no user and password"),
        ("https://example.com/#x", "fragment"),
        ("ftp://example.com/", "https"),
        ("example.com/hook", "URL"),
        ("https:///hook", "URL"),
        ("https://example.com:port/", "WEBHOOK_URL"),
        ("https://example.com/a b", "URL"),
        ("https://exämple.com/", "ASCII"),
        ("https://[::1/", "WEBHOOK_URL"),
        ("https://a\\b/", "URL"),
        ("https://a/\\b", "URL"),
        ("https://a,b/", "URL"),
        ("HTTP://8.8.8.8/", "https"),
        ("http://[::ffff:8.8.8.8]/", "https"),
    ],
)
def test_any_other_url_stops_the_start_with_one_line_that_does_not_repeat_it(url: str, expected: str) -> None:
    (line,) = faults(WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)
    assert expected in line
    assert "password@" not in line
    assert "latest" not in line


@pytest.mark.parametrize(("text", "delays"), [("1", (1,)), ("2, 3,5", (2, 3, 5)), ("86400", (86400,))])
def test_a_schedule_is_delays_in_seconds(text: str, delays: tuple[int, ...]) -> None:
    found = target(WEBHOOK_URL=URL, WEBHOOK_SECRET=SECRET, SIGIL_WEBHOOK_SCHEDULE=text)
    assert found is not None
    assert found.schedule == delays


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1,,2", "soon", "86401", ",".join(["1"] * 21), "1s"])
def test_any_other_schedule_stops_the_start(text: str) -> None:
    (line,) = faults(WEBHOOK_URL=URL, WEBHOOK_SECRET=SECRET, SIGIL_WEBHOOK_SCHEDULE=text)
    assert line.startswith("SIGIL_WEBHOOK_SCHEDULE: ")


def test_the_webhook_commands_need_no_mnemonic() -> None:
    found = load_webhook({"WEBHOOK_URL": URL, "WEBHOOK_SECRET": SECRET, "SIGIL_PORT": "9443"})
    assert found.url is not None
    assert (found.url.reveal(), len(found.secrets), found.state_dir) == (URL, 1, Path("/dev/shm/sigil-9443"))
    empty: Any = load_webhook({})
    assert (empty.url, empty.secrets) == (None, ())
