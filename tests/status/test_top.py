"""`sigil top` against a real server, on a real terminal, and in pipes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigil.device import Device
from sigil.status import figures
from tests.flows.backend import Backend
from tests.support.live import LiveServer, wait_until

from .screen import ENTER, Screen

TOKEN = "a-metrics-token-of-these-tests"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, METRICS_TOKEN=TOKEN, RELAY_URL="http://127.0.0.1:9") as made:
        yield made


def top(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sigil", "top", "--interval", "1", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_pipe_gets_one_table_of_the_figures(server: LiveServer) -> None:
    with Backend(server) as backend:
        backend.create_challenge(Device.generate())
    done = top(server.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert TOKEN not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Sigil 0.1.0, operational, up ")
    assert any(line.split() == ["Pending", "1"] for line in lines)
    for _, group in figures.load().groups:
        assert all(any(figure.label in line for line in lines) for figure in group)


def test_json_has_each_figure(server: LiveServer) -> None:
    done = top(server.environ, "--json")
    found = json.loads(done.stdout)
    assert found["url"] == server.url
    assert set(found["figures"]) == {figure.id for figure in figures.load().figures()}
    assert found["figures"]["mode"]["value"] == "operational"
    assert set(found["figures"]["store"]) == {"label", "kind", "unit", "value", "also", "level"}
    assert found["attention"] == [name for name, figure in found["figures"].items() if figure["level"]]


def test_another_server_is_read_with_its_token_file(server: LiveServer, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(f"{TOKEN}\n")
    there = ("--url", server.url, "--ca", str(server.certificate), "--token-file", str(token_file))
    done = top({"PATH": "", "METRICS_TOKEN": "that-of-another-server"}, "--once", *there)
    assert done.returncode == 0, done.stderr
    # Without the option, the token of the settings is not sent to another server.
    done = top({**server.environ}, "--once", *there[:4])
    assert done.returncode == 1
    assert "HTTP 401: it requires METRICS_TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("settings", "arguments", "text"),
    [
        ({"METRICS_TOKEN": "wrong-wrong-wrong-wrong"}, (), "HTTP 401: it does not accept this token"),
        ({"METRICS_TOKEN": ""}, (), "HTTP 401: it requires METRICS_TOKEN, which this command lacks"),
        ({"SIGIL_PORT": "1"}, (), "Connection refused (127.0.0.1 port 1); check that `sigil serve` runs"),
        ({"TLS_CERT_PATH": "/nowhere/cert.pem"}, (), "the certificate /nowhere/cert.pem cannot be read"),
        ({}, ("--ca", "x"), "--ca and --token-file need --url"),
        ({}, ("--url", "https://x.test?token=1"), "--url must be a URL"),
        ({}, ("--url", "http://x.test", "--token-file", "TOKEN"), "the token needs https"),
        ({}, ("--url", "https://127.0.0.1:1", "--token-file", "/nowhere"), "--token-file: cannot read /nowhere"),
    ],
)
def test_a_fault_is_one_line_that_says_what_to_do(
    server: LiveServer, tmp_path: Path, settings: dict[str, str], arguments: tuple[str, ...], text: str
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    given = [str(token_file) if argument == "TOKEN" else argument for argument in arguments]
    done = top({**server.environ, **settings}, "--once", *given)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr


def test_a_server_with_another_certificate_gets_no_token(server: LiveServer) -> None:
    with LiveServer(workers=1, METRICS_TOKEN=TOKEN) as other:
        done = top({**server.environ, "SIGIL_PORT": str(other.port)}, "--once")
    assert done.returncode == 1
    assert "so no token was sent: send SIGHUP" in done.stderr


def test_q_ends_it_and_the_terminal_is_as_before(server: LiveServer) -> None:
    with Screen(server.environ) as screen:
        text = screen.wait(lambda text: "operational" in text and "q quits" in text, "the figures")
        assert "Critical" not in text
        screen.press("q")
        assert screen.ended() == 0
        assert screen.is_restored()
        assert TOKEN.encode() not in screen.written


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_ends_it_and_the_terminal_is_as_before(server: LiveServer, number: int, code: int) -> None:
    with Screen(server.environ) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        if number == signal.SIGINT:
            screen.press("\x03")
        else:
            screen.process.send_signal(number)
        assert screen.ended() == code
        assert screen.is_restored()


def test_a_terminal_that_takes_no_output_does_not_keep_it(server: LiveServer) -> None:
    """Its screen is not read, so its buffer fills up."""
    with Screen(server.environ, columns=250, lines=200) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        wait_until(lambda: _blocked_in_write(screen.process.pid), "a full terminal")
        screen.process.send_signal(signal.SIGTERM)
        assert screen.process.wait(60) == 143
        assert screen.is_as_before()


def _blocked_in_write(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() in {"wait_woken", "n_tty_write", "do_wait_woken", "0"} and (
        Path(f"/proc/{pid}/syscall").read_text().split()[0] == "1"
    )


def test_it_stops_in_the_background_and_draws_again(server: LiveServer) -> None:
    with Screen(server.environ) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        screen.process.send_signal(signal.SIGTSTP)
        wait_until(lambda: _state(screen.process.pid) == "T", "the stop")
        screen.read()
        assert screen.is_restored()
        entered = screen.written.count(ENTER)
        screen.process.send_signal(signal.SIGCONT)
        wait_until(lambda: (screen.read(), screen.written.count(ENTER) > entered)[1], "the screen")
        screen.press("q")
        assert screen.ended() == 0
        assert screen.is_restored()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]


def test_it_fits_after_a_resize_and_in_a_narrow_window_of_another_locale(server: LiveServer) -> None:
    environ = {**server.environ, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with Screen(environ) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        screen.resize(40, 12)
        text = screen.wait(lambda text: "enlarge the window" in text, "the small window")
        rows = text.split("\n")
        assert len(rows) == 12
        assert max(map(len, rows)) <= 40
        assert text.isascii()
        screen.resize(160, 50)
        text = screen.wait(lambda text: "Log lines lost" in text, "the large window")
        assert max(map(len, text.split("\n"))) <= 160
        assert text.isascii()


def test_no_colour_where_none_is_wanted(server: LiveServer) -> None:
    with Screen({**server.environ, "NO_COLOR": "1"}) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        assert b"\x1b[3" not in screen.written
    with Screen({**server.environ, "TERM": "dumb"}) as screen:
        assert screen.ended() == 0
        assert b"\x1b" not in screen.written
        assert b"Session store" in screen.written


def test_a_restart_of_the_server_is_a_line_and_the_figures_go_on() -> None:
    with LiveServer(workers=1, METRICS_TOKEN=TOKEN) as server, Screen(server.environ) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        server.stop()
        text = screen.wait(lambda text: "Connection refused" in text and " s old." in text, "the fault")
        assert "Session store" in text
        server.start()
        screen.wait(lambda text: "Connection refused" not in text and "q quits" in text, "the server")
        assert screen.process.poll() is None
        screen.press("q")
        assert screen.ended() == 0


def test_the_token_is_not_on_the_command_line_and_no_process_shows_it(server: LiveServer) -> None:
    with Screen(server.environ) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        assert TOKEN.encode() not in Path(f"/proc/{screen.process.pid}/cmdline").read_bytes()


def test_without_an_input_there_are_no_keys(server: LiveServer) -> None:
    """As after `< /dev/null`: it goes on until a signal ends it."""
    with Screen(server.environ, without_input=True) as screen:
        screen.wait(lambda text: "operational" in text, "the figures")
        screen.press("q")
        screen.process.terminate()
        assert screen.ended() == 143
        assert screen.is_restored()
