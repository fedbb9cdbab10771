"""The list of trusted servers, in a variable or in a file that SIGHUP reloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import load
from sigil.serving.settings import ConfigError

ONE, TWO = "a" * 64, "b" * 64


def test_the_list_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    path.write_text(f"{ONE}\n{TWO}\n")
    environ = {"RELAY_TRUSTED_SERVERS_FILE": str(path)}
    assert load(environ).trusted_servers == {bytes.fromhex(ONE), bytes.fromhex(TWO)}
    path.write_text("")
    assert load(environ).trusted_servers == frozenset()


def test_an_invalid_server_id_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    path.write_text("somebody")
    with pytest.raises(ConfigError, match="RELAY_TRUSTED_SERVERS: must be a list of server_ids"):
        load({"RELAY_TRUSTED_SERVERS_FILE": str(path)})
