"""The log: its format, its redaction, and its robustness."""

import asyncio
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sigil.serving import logs
from sigil.serving.log_output.redaction import is_secret_name

KEY = "sgk_live_" + "0123456789abcdef" * 4


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Configure the log into a file, return its lines, and restore the logging of the test run."""
    root, writer = logging.getLogger(), logs._sink.writer
    handlers, level, hook, unraisable = root.handlers[:], root.level, sys.excepthook, sys.unraisablehook
    path = tmp_path / "log"
    with path.open("wb") as file:
        logs._sink.write_to(file.fileno())
        logs.configure("sigil", "info")
        yield lambda: [json.loads(line) for line in path.read_bytes().splitlines()]
    logs._sink.writer, sys.excepthook = writer, hook
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions, sys.unraisablehook = True, unraisable


def test_an_event_is_one_json_line(lines: Any) -> None:
    logs.info("challenge_created", challenge_id="a9f3", pending=3, device=logs.short("a1b2c3d4e5f6"))
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "service": "sigil",
        "event": "challenge_created",
        "challenge_id": "a9f3",
        "pending": 3,
        "device": "a1b2c3…",
    }


def test_levels_below_the_threshold_are_not_logged(lines: Any) -> None:
    logs.configure("relay", "warn")
    logs.debug("a")
    logs.info("b")
    logs.warn("c")
    logs.error("d")
    assert [(line["level"], line["service"]) for line in lines()] == [("warn", "relay"), ("error", "relay")]
    assert not logs.enabled("info")


def test_an_unknown_level_is_rejected() -> None:
    with pytest.raises(ValueError, match="verbose"):
        logs.configure("sigil", "verbose")


def test_fields_cannot_replace_the_standard_members_of_a_line(lines: Any) -> None:
    logs.info("a", level="forged", event="forged", service="forged", timestamp="forged")
    (line,) = lines()
    assert (line["level"], line["event"], line["service"]) == ("info", "a", "sigil")
    assert line["event_"] == "forged"


@pytest.mark.parametrize(
    "name",
    "mnemonic api_key API_KEY apiKey authorization Authorization signature signatures push_token webhook_secret seed "
    "private_key match_code metrics_token X-Api-Key token_encryption_key set-cookie password".split(),
)
def test_fields_of_these_names_never_show_their_value(lines: Any, name: str) -> None:
    logs.info("a", **{name: "hidden", "nested": {name: "hidden", "list": [{name: "hidden"}]}})
    assert "hidden" not in json.dumps(lines())


@pytest.mark.parametrize("name", "challenge_id fingerprint key_id server_id tokens_per_second signature_count".split())
def test_fields_of_these_names_are_shown(name: str) -> None:
    assert not is_secret_name(name)


class Hidden(str):
    __secret__ = True


class Holder(msgspec.Struct):
    api_key: str = "hidden"
    name: str = "shown"
    inner: Any = Hidden("hidden")


class Code(Enum):
    HIDDEN = Hidden("hidden")


class Unknown:
    def __repr__(self) -> str:
        return "hidden"


@pytest.mark.parametrize(
    "value", [Hidden("hidden"), [Hidden("hidden")], Holder(), Code.HIDDEN, Unknown(), b"hidden", {"a": (Unknown(),)}]
)
def test_values_that_are_secret_or_unknown_are_not_shown(lines: Any, value: object) -> None:
    logs.info("a", value=value)
    assert "hidden" not in json.dumps(lines())


@pytest.mark.parametrize("text", [KEY, f"Bearer {KEY}", KEY[:25], KEY.upper(), KEY.replace("live", "test")])
def test_an_api_key_is_redacted_at_any_place(lines: Any, text: str) -> None:
    logs.info("a", text=f"got {text}!", nested=[{"x": text}], **{text: 1})
    logs.info(text)
    logging.getLogger("library").error("refused %s", text)
    written = json.dumps(lines())
    assert "0123456789abcdef" not in written.lower()
    assert len(lines()) == 3


@pytest.mark.parametrize(
    "value", ["a\nb\r\0\x1b[31m\u2028", "\ud800", 2**70, float("nan"), {"\ud800": "\udfff"}, {1: {2: 3}}, -(2**63)]
)
def test_no_value_breaks_a_line(lines: Any, value: object) -> None:
    logs.info("a", value=value, **{"na\nme\ud800": 1} if value == "\ud800" else {})
    logging.getLogger("library").error("%s", value)
    assert [line["event"] for line in lines()] == ["a", "log"]


def test_a_cycle_and_a_long_value_end_in_one_short_line(lines: Any) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    logs.info("a", cycle=cycle)
    logs.info("b", text="x" * 100_000, kept="yes")
    logs.info("c", **{f"field{i}": "x" * 200 for i in range(100)})
    a, b, c = lines()
    assert (a["event"], b["kept"], b["truncated"], c["truncated"]) == ("a", "yes", True, True)
    assert len(json.dumps(b)) < 4096


def test_an_exception_is_logged_by_type_and_location_only(lines: Any) -> None:
    def inner(word: str) -> None:
        raise ValueError(f"not a word: {word}")

    try:
        try:
            inner("hidden")
        except ValueError as exc:
            raise KeyError("hidden") from exc
    except KeyError as exc:
        logs.error("failed", exc=exc, challenge_id="a9f3")
        logging.getLogger("library").exception("it failed for %s", "hidden")
    event, record = lines()
    assert event["exception"] == record["exception"] == "KeyError < ValueError"
    assert "test_logs.py:" in event["location"]
    assert "hidden" not in json.dumps([event, record])
    assert record["message"] == "it failed for %s"


def test_a_failed_task_does_not_show_its_exception(lines: Any) -> None:
    async def main() -> None:
        async def fail() -> None:
            raise ValueError("hidden")

        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task

    asyncio.run(main())
    (line,) = lines()
    assert (line["event"], line["exception"]) == ("asyncio", "ValueError")
    assert "hidden" not in json.dumps(line)


def test_records_of_libraries_have_the_same_format(lines: Any) -> None:
    logging.getLogger("_granian").warning("Workers %s", "odd")
    logging.getLogger("granian.access").error("x")
    odd = logging.LogRecord("library", logging.ERROR, "x.py", 1, "bad %d", ("no number",), None)
    # Directly to the handler: pytest's handler raises for a template that does not fit.
    logging.getLogger().handlers[0].handle(odd)
    logging.getLogger("httpx").info("GET https://example.org/?token=hidden")
    logging.getLogger("py.warnings").warning("x.py:1: UserWarning: odd\n  warn()")
    assert [(line["event"], line["level"]) for line in lines()] == [
        ("http_server", "warn"),
        ("access", "error"),
        ("log", "error"),
        ("warning", "warn"),
    ]
    assert lines()[2]["logger"] == "library"


def test_debug_records_of_libraries_are_not_logged(lines: Any) -> None:
    logs.configure("sigil", "debug")
    for name in ("httpcore.http2", "hpack.hpack", "library"):
        logging.getLogger(name).debug("authorization: hidden")
    logging.getLogger("httpx").info("hidden")
    logs.debug("ours")
    assert [line["event"] for line in lines()] == ["ours"]


PROGRAM = """
import os, sys
from sigil.serving import logs
logs.configure("sigil", "info")
if sys.argv[1] == "uncaught":
    raise ValueError("hidden")
if sys.argv[1] == "closed":
    os.close(1)
sys.stdin.read()
for _ in range(3):
    logs.info("a")
os.write(2, b"alive")
"""


@pytest.mark.parametrize("fault", ["closed", "broken pipe"])
def test_a_log_without_a_reader_does_not_stop_the_process(fault: str) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROGRAM, fault], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"")
    assert process.returncode == 0
    report, alive = errors.decode().splitlines()
    assert report.startswith("sigil: the log on standard output cannot be written: ")
    assert alive == "alive"


def test_an_uncaught_exception_is_one_line_without_its_message() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "uncaught"], capture_output=True, check=False)
    assert (json.loads(done.stdout)["exception"], done.stderr, done.returncode) == ("ValueError", b"", 1)


def test_a_line_holds_no_character_that_drives_or_reorders_a_terminal(lines: Any, tmp_path: Path) -> None:
    """JSON escapes C0; a terminal also obeys C1, and shows an override instead of the bytes."""
    hostile = "a\x1b[2J\x7f\x9b2J\u202eb\u2066\U000e0041\u00ad"
    logs.info("event", name=hostile, tree={hostile: [hostile]})
    (line,) = lines()
    written = (tmp_path / "log").read_text(encoding="utf-8")
    assert not set(written) & set("\x1b\x7f\x9b\u202e\u2066\U000e0041\u00ad")
    assert line["name"] == "a\x1b[2J\\u{7f}\\u{9b}2J\\u{202e}b\\u{2066}\\u{e0041}\\u{ad}"
    assert list(line["tree"].values()) == [[line["name"]]]
