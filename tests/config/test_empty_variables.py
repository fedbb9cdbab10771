"""An empty environment variable counts as unset, since a Compose file passes each setting as `NAME: ${NAME:-}`."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
from sigil.serving.certificate_variables import drop_empty_certificate_variables
from tests.config.test_settings import REQUIRED, names_read_by
from tests.support.ports import free_port

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTINGS_OF_OTHERS = {"SSL_CERT_FILE"}
EMPTY = ["", " ", "\t\n"]


def documented(page: str) -> set[str]:
    """The names in the first columns of the tables of settings."""
    rows = re.findall(r"^\| (`[A-Z].*?) \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}


def all_names() -> set[str]:
    names = names_read_by(sigil_config.load) | names_read_by(relay_config.load)
    return names | documented("configuration.md") | documented("relay.md")


def test_the_documents_and_the_code_name_the_same_settings() -> None:
    """Otherwise the next test could miss one."""
    read = names_read_by(sigil_config.load) | names_read_by(relay_config.load)
    listed = documented("configuration.md") | documented("relay.md")
    assert len(listed) > 50
    assert listed <= read | SETTINGS_OF_OTHERS
    # A value of its own, or a variant of one that is listed.
    not_listed = {name for name in read - listed if name.removesuffix("_FILE") not in listed}
    assert not_listed == {"SIGIL_STORE_URL"}


@pytest.mark.parametrize("empty", EMPTY)
def test_every_setting_of_the_server_counts_as_unset_when_it_is_empty(empty: str) -> None:
    plain = sigil_config.load(REQUIRED)
    for name in sorted(all_names() - REQUIRED.keys() - {"RELAY_URL"}):
        config = sigil_config.load(REQUIRED | {name: empty})
        assert (config, config.warnings) == (plain, plain.warnings), name
    together = sigil_config.load(dict.fromkeys(all_names() - {"RELAY_URL"}, empty) | REQUIRED)
    assert (together, together.warnings) == (plain, plain.warnings)


@pytest.mark.parametrize("empty", EMPTY)
def test_every_setting_of_the_relay_counts_as_unset_when_it_is_empty(empty: str) -> None:
    plain = relay_config.load({})
    for name in sorted(all_names()):
        config = relay_config.load({name: empty})
        assert (config, config.warnings) == (plain, plain.warnings), name
    together = relay_config.load(dict.fromkeys(all_names(), empty))
    assert (together, together.warnings) == (plain, plain.warnings)


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_relay_url_means_no_push(empty: str) -> None:
    assert sigil_config.load(REQUIRED | {"RELAY_URL": empty}).relay_url is None
    assert sigil_config.load(REQUIRED).relay_url == "http://relay:8080"


def test_an_empty_mnemonic_is_reported_as_missing() -> None:
    with pytest.raises(sigil_config.ConfigError, match="SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required"):
        sigil_config.load({"SIGIL_MNEMONIC": "", "SIGIL_MNEMONIC_PATH": ""})


def test_an_unknown_variable_is_warned_about_unless_it_is_empty() -> None:
    assert sigil_config.load(REQUIRED | {"SIGIL_UNKNOWN": "", "RELAY_UNKNOWN": ""}).warnings == ()
    assert len(sigil_config.load(REQUIRED | {"SIGIL_UNKNOWN": "x"}).warnings) == 1


def test_empty_variables_of_openssl_leave_the_certificate_authorities_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", "  ")
    drop_empty_certificate_variables()
    assert ssl.get_default_verify_paths().cafile == _paths_without_variables()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    drop_empty_certificate_variables()
    assert os.environ["SSL_CERT_FILE"] == str(tmp_path)


def _paths_without_variables() -> str | None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    script = "import ssl; print(ssl.get_default_verify_paths().cafile)"
    shown = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    return None if shown.stdout == "None\n" else shown.stdout.strip()


@pytest.mark.parametrize("module", ["sigil", "relay"])
def test_both_commands_take_an_environment_of_empty_variables(module: str, tmp_path: Path) -> None:
    """Every setting at once, and OpenSSL's."""
    environ = os.environ | dict.fromkeys([*all_names(), "SSL_CERT_FILE", "SSL_CERT_DIR"], "")
    # Those whose default may not suit this machine.
    environ |= {"SIGIL_MODE": "init", "SIGIL_STATE_DIR": str(tmp_path), "SIGIL_STATE_DIR_INSECURE": "true"}
    environ |= {"SIGIL_STORE_SIZE": "16MiB", "SIGIL_WORKERS": "1", "RELAY_DATA_DIR": str(tmp_path)}
    environ |= {f"TLS_{file}_PATH": str(tmp_path / f"{file}.pem") for file in ("CERT", "KEY")}
    environ |= {name: str(free_port()) for name in ("SIGIL_PORT", "RELAY_PORT")}
    command = [sys.executable, "-m", module, "check-config"]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "Configuration OK" in run.stdout
