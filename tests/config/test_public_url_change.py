"""A start with another SIGIL_PUBLIC_URL: the keys of web devices belong to the former one, and the log says so once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sigil.app.web_address import ADDRESS_FILE, warn_of_change
from sigil.config.settings import Config
from sigil.serving import logs
from tests.support.live import LiveServer

OLD, NEW = "https://sigil.example.com", "https://auth.example.com:8443"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def starts(public_url: str | None) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        monkeypatch.setattr(logs, "warn", lambda event, **fields: lines.append({"event": event, **fields}))
        warn_of_change(Config(state_dir=tmp_path, public_url=public_url))
        return lines

    return starts


def test_another_address_is_warned_about_once(start: Any) -> None:
    assert start(OLD) == []
    assert start(OLD) == []
    (line,) = start(NEW)
    assert line["event"] == "public_url_changed"
    assert (line["former"], line["public_url"]) == (OLD, NEW)
    assert start(NEW) == []
    assert [line["former"] for line in start(OLD)] == [NEW]


@pytest.mark.parametrize("without", [None, "https://192.0.2.1"])
def test_an_address_without_web_devices_ends_their_keys_too(start: Any, without: str | None) -> None:
    assert start(without) == []
    assert start(OLD) == []
    (line,) = start(without)
    assert (line["former"], line["public_url"]) == (OLD, None)
    assert start(without) == []
    assert start(NEW) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"no address", b"http://sigil.example.com\n"])
def test_a_file_of_another_content_is_replaced(start: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / ADDRESS_FILE).write_bytes(content)
    assert start(OLD) == []
    assert (tmp_path / ADDRESS_FILE).read_bytes() == f"{OLD}\n".encode()


def test_a_file_that_cannot_be_read_is_only_logged(start: Any, tmp_path: Path) -> None:
    (tmp_path / ADDRESS_FILE).mkdir()
    (line,) = start(OLD)
    assert line["event"] == "marker_not_written"
    assert str(tmp_path / ADDRESS_FILE) in line["reason"]


def test_a_start_with_another_address_logs_it() -> None:
    with LiveServer(workers=1, SIGIL_PUBLIC_URL=OLD) as server:
        server.stop()
        server.environ["SIGIL_PUBLIC_URL"] = NEW
        server.start()
        assert [line["former"] for line in server.log() if line["event"] == "public_url_changed"] == [OLD]
