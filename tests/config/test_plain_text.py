"""Text of files and variables: hidden characters and quotes are named, never the value."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay import config as relay_config
from sigil.cli.commands import sigil as cli
from sigil.config import settings as sigil_config
from sigil.protocol.encoding.plain_text import NotPlainText, check, cleaned, text_of
from sigil.sdk import SigilAuth
from sigil.sdk.errors import ConfigurationError
from sigil.serving.settings import ConfigError
from tests.config.test_settings import REQUIRED

SECRET = "s3cret" * 8
SERVER_ID = "ab" * 32
MNEMONIC = f"{'abandon ' * 23}art"
HIDDEN = {
    "a zero width space": ("\u200b", r"U\+200B \(ZERO WIDTH SPACE\)"),
    "a no-break space": ("\u00a0", r"U\+00A0 \(NO-BREAK SPACE\)"),
    "an ideographic space": ("\u3000", r"U\+3000 \(IDEOGRAPHIC SPACE\)"),
    "a soft hyphen": ("\u00ad", r"U\+00AD \(SOFT HYPHEN\)"),
    "a left-to-right mark": ("\u200e", r"U\+200E \(LEFT-TO-RIGHT MARK\)"),
    "a Hangul filler": ("\u3164", r"U\+3164 \(HANGUL FILLER\)"),
    "a second byte order mark": ("\ufeff", r"U\+FEFF \(ZERO WIDTH NO-BREAK SPACE\)"),
    "NUL": ("\0", r"U\+0000 \(NUL, as in UTF-16 text\)"),
    "a carriage return alone": ("\r", r"U\+000D \(a control character\)"),
    "an escape": ("\x1b", r"U\+001B \(a control character\)"),
    "a line separator": ("\u2028", r"U\+2028 \(LINE SEPARATOR\)"),
    "a tag": ("\U000e0041", r"U\+E0041 \(TAG LATIN CAPITAL LETTER A\)"),
}
QUOTES = ["'{}'", '"{}"', "`{}`", "\u201c{}\u201d", "\u2018{}\u2019", " '{}' \n"]

# Each file that a service reads, with a valid content.
FILES: dict[str, tuple[Callable[[Mapping[str, str]], Any], dict[str, str], str]] = {
    "SIGIL_MNEMONIC_PATH": (sigil_config.load, {}, MNEMONIC),
    "API_KEY_FILE": (sigil_config.load, REQUIRED, SECRET),
    "SIGIL_REVOKED_API_KEYS_FILE": (sigil_config.load, REQUIRED, "0123abcd\r\n89ab4567"),
    "WEBHOOK_SECRET_FILE": (sigil_config.load, REQUIRED | {"WEBHOOK_URL": "https://a.example/"}, SECRET),
    "WEBHOOK_URL_FILE": (sigil_config.load, REQUIRED | {"WEBHOOK_SECRET": SECRET}, "https://a.example/hook"),
    "METRICS_TOKEN_FILE": (sigil_config.load, REQUIRED, SECRET),
    "SIGIL_INIT_TOKEN_FILE": (sigil_config.load, REQUIRED, SECRET),
    "TOKEN_ENCRYPTION_KEY_FILE": (relay_config.load, {}, SECRET),
    "DATABASE_URL_FILE": (relay_config.load, {"TOKEN_ENCRYPTION_KEY": SECRET}, f"postgresql://u:{SECRET}@db/relay"),
    "RELAY_TRUSTED_SERVERS_FILE": (relay_config.load, {}, f"{SERVER_ID}\n"),
}


@pytest.fixture(params=FILES)
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Any]:
    name = request.param
    read, required, _ = FILES[name]

    def loaded(content: bytes) -> Any:
        file = tmp_path / "given"
        file.touch(0o600)
        file.write_bytes(content)
        return read({**required, name: str(file)})

    loaded.content = FILES[name][2]  # type: ignore[attr-defined]
    loaded.name = name  # type: ignore[attr-defined]
    return loaded


def _faults(load: Any, content: bytes) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(content)
    lines = raised.value.lines
    # Neither the secret nor a part of it.
    assert not any(load.content[at : at + 6] in line for at in range(len(load.content) - 5) for line in lines), lines
    return lines


def test_a_byte_order_mark_and_blanks_around_are_no_part_of_the_value(load: Any) -> None:
    plain = load(load.content.encode())
    assert load(codecs.BOM_UTF8 + load.content.encode()) == plain
    assert load(codecs.BOM_UTF8 + f"\t {load.content} \r\n\n".encode()) == plain


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_character_that_cannot_be_seen_is_named_with_its_place(load: Any, kind: str) -> None:
    char, named = HIDDEN[kind]
    for place in (0, 5, len(load.content)):
        content = load.content[:place] + char + load.content[place:]
        # The first one is taken off.
        mark = codecs.BOM_UTF8 if char == "\ufeff" and place == 0 else b""
        if char == "\r" and place in (0, len(load.content)):
            continue
        [line] = _faults(load, mark + content.encode())
        first_line = load.content.partition("\n")[0]
        if place <= len(first_line):
            where = f"at line 1, character {place + 1}, which cannot be seen"
            assert where in line, line
        assert re.search(named, line), line
        assert line.startswith(f"{load.name}: "), line


def test_text_of_another_encoding_is_named(load: Any) -> None:
    for encoding in ("utf-16", "utf-32"):
        [line] = _faults(load, load.content.encode(encoding))
        assert line.endswith("is UTF-16 text: save it as UTF-8")
    [line] = _faults(load, load.content.encode("utf-16-le"))
    assert "U+0000 (NUL, as in UTF-16 text) at line 1, character 2" in line
    [line] = _faults(load, b"\xe4" + load.content.encode())
    assert line.endswith("is not UTF-8 text")


@pytest.mark.parametrize("quoted", QUOTES)
def test_quotes_around_the_whole_value_are_named(load: Any, quoted: str) -> None:
    lines = _faults(load, quoted.format(load.content).encode())
    assert [line for line in lines if "is in quotes: remove them" in line] == lines


def _names_and_values(load: Callable[[Mapping[str, str]], Any]) -> dict[str, str]:
    """Each variable, by kind of value."""
    if load is sigil_config.load:
        return {
            "TLS_CERT_PATH": "/x", "SIGIL_STATE_DIR": "/dev/shm/x", "SIGIL_PORT": "8443", "SIGIL_SERVER_NAME": "Sigil",
            "SIGIL_PUBLIC_URL": "https://a.example", "RELAY_URL": "http://relay:8080", "WEBHOOK_URL": "https://a.example",
            "SIGIL_NUMBER_MATCHING": "on", "SIGIL_MNEMONIC": MNEMONIC, "SIGIL_MNEMONIC_PATH": "/x", "API_KEY": SECRET,
            "SIGIL_REVOKED_API_KEYS": "0123abcd", "TRUSTED_PROXY_CIDR": "10.0.0.0/8", "SIGIL_HOST": "127.0.0.1",
        }  # fmt: skip
    return {
        "RELAY_DATA_DIR": "/x", "DATABASE_URL": f"postgresql://u:{SECRET}@db/r", "TOKEN_ENCRYPTION_KEY": SECRET,
        "RELAY_PUBLIC_URL": "https://a.example", "APNS_KEY_PATH": "/x", "RELAY_TRUSTED_SERVERS": SERVER_ID,
        "FCM_SERVICE_ACCOUNT": "/x", "RELAY_PUSH_RATE": "10/min",
    }  # fmt: skip


@pytest.mark.parametrize("load", [sigil_config.load, relay_config.load])
def test_a_variable_with_quotes_or_a_hidden_character_is_one_line(load: Callable[[Mapping[str, str]], Any]) -> None:
    """Docker's --env-file and env_file keep quotes: a quoted TLS_CERT_PATH made a new certificate elsewhere."""
    for name, value in _names_and_values(load).items():
        for given, problem in (
            (f"'{value}'", "is in quotes: remove them"),
            (f'"{value}"', "is in quotes: remove them"),
            (f"{value}\u200b", f"has U+200B (ZERO WIDTH SPACE) at line 1, character {len(value) + 1}"),
            (f"\ufeff{value}", "has U+FEFF (ZERO WIDTH NO-BREAK SPACE) at line 1, character 1"),
            (f"\u00a0{value}", "has U+00A0 (NO-BREAK SPACE) at line 1, character 1"),
            (f"{value}\udce4", "is not UTF-8 text"),
        ):
            with pytest.raises(ConfigError) as raised:
                load({**(REQUIRED if name != "SIGIL_MNEMONIC_PATH" else {}), name: given})
            named = [line for line in raised.value.lines if line.startswith(f"{name}: {problem}")]
            assert len(named) == 1, (name, raised.value.lines)
            assert SECRET not in str(raised.value)
            assert MNEMONIC not in str(raised.value)


def test_a_relay_url_of_hidden_characters_does_not_turn_pushes_off() -> None:
    for given in ("\u00a0", "\u200b", "''"):
        with pytest.raises(ConfigError, match=r"^RELAY_URL: "):
            sigil_config.load(REQUIRED | {"RELAY_URL": given})


def test_an_item_of_a_list_in_quotes_is_named() -> None:
    for load, name in (
        (sigil_config.load, "API_KEY"),
        (sigil_config.load, "WEBHOOK_SECRET"),
        (relay_config.load, "TOKEN_ENCRYPTION_KEY"),
    ):
        with pytest.raises(ConfigError, match=f"^{name}: an item is in quotes"):
            load(REQUIRED | {name: f"{SECRET},'{SECRET}x'"})


def test_a_server_name_may_have_the_joiners_of_its_language() -> None:
    for name in ("Sigil ✈\ufe0f", "👩\u200d🔬", "نامه\u200cای"):
        assert sigil_config.load(REQUIRED | {"SIGIL_SERVER_NAME": name}).server_name == name


def test_a_file_that_every_user_can_change_is_a_warning(tmp_path: Path) -> None:
    """A list of revocations is no secret, but a user who empties it lets a stolen key in. SIGHUP warns, too."""
    revoked, servers = tmp_path / "revoked", tmp_path / "servers"
    revoked.write_text("0123abcd")
    servers.write_text(SERVER_ID)
    for mode, warned in ((0o644, False), (0o646, True)):
        revoked.chmod(mode)
        servers.chmod(mode)
        for file, warnings in (
            (revoked, sigil_config.load(REQUIRED | {"SIGIL_REVOKED_API_KEYS_FILE": str(revoked)}).warnings),
            (revoked, sigil_config.load_renewed({"SIGIL_REVOKED_API_KEYS_FILE": str(revoked)}).warnings),
            (servers, relay_config.load_renewed({"RELAY_TRUSTED_SERVERS_FILE": str(servers)}).warnings),
        ):
            expected = [f"every user can change {file}; chmod o-w it"] if warned else []
            assert [line.partition(": ")[2] for line in warnings] == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (codecs.BOM_UTF8 + b"sgk_test_" + b"ab" * 32, None),
        (b"'sgk_test_" + b"ab" * 32 + b"'", "is in quotes"),
        (("k" * 40).encode("utf-16"), "is UTF-16 text"),
        (f"{'k' * 40}\u200b".encode(), "ZERO WIDTH SPACE"),
    ],
)
def test_the_sdk_reads_its_key_by_the_same_rule(
    content: bytes, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    monkeypatch.delenv("SIGIL_API_KEY", raising=False)
    monkeypatch.setenv("SIGIL_API_KEY_FILE", str(file))
    if problem is None:
        assert SigilAuth("https://a.example").service_url == "https://a.example"
        return
    with pytest.raises(ConfigurationError, match=problem) as raised:
        SigilAuth("https://a.example")
    assert "kkkk" not in str(raised.value)


def test_the_sdk_names_quotes_in_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", SECRET)
    for name in ("SIGIL_SERVICE_URL", "SIGIL_API_KEY", "SIGIL_API_KEY_FILE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, '"https://a.example"')
            with pytest.raises(ConfigurationError, match=f"{name} is in quotes"):
                SigilAuth()


def test_the_device_names_quotes_in_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["device", "servers"], env={"SIGIL_DEVICE_HOME": f"'{tmp_path}/keys'"})
    assert result.exit_code == 2
    assert "--home (or SIGIL_DEVICE_HOME) is in quotes" in result.output
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_words_of_standard_input_follow_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, problem in (
        (f"{MNEMONIC}\u200b".encode(), "ZERO WIDTH SPACE"),
        (MNEMONIC.encode("utf-16"), "is UTF-16"),
    ):
        result = CliRunner().invoke(cli, ["init", "--restore", "--yes"], input=given)
        assert result.exit_code != 0
        assert problem in result.output


def test_what_is_cleaned_has_no_problem() -> None:
    for text in ("a", "\u200b'a\0'", "' a '", '""', "\ufeff"):
        assert check(cleaned(text)) == cleaned(text)
    with pytest.raises(NotPlainText):
        text_of(b"\xff\xfe")
