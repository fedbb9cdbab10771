"""`make install` says what goes on. Nothing is downloaded here."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.tools import install
from deploy.tools.folder_lock import lock_folder
from tests.support.live import DEADLINE

OUTPUT = (
    "Collecting aiohttp==3.13 (from -r requirements.lock (line 2))\n  Downloading aiohttp.whl\nCollecting attrs==25\n"
)


def test_packages_are_counted_while_pip_collects_and_while_it_installs(tmp_path: Path) -> None:
    state = install.packages(tmp_path, 131)
    assert state("") == "collected 0 of about 131"
    assert state(OUTPUT) == "collected 2 of about 131 (attrs)"
    for name in ("aiohttp-3.13.dist-info", "attrs-25.dist-info", "attrs"):
        (tmp_path / name).mkdir()
    assert state(OUTPUT + "Installing collected packages: attrs, aiohttp\n") == "installed 2 of about 131"


def module(folder: Path, text: str) -> list[str]:
    (folder / "work.py").write_text(text)
    return [sys.executable, "-m", "work"]


def test_a_failure_shows_the_output_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = module(tmp_path, "import sys; print('ERROR: no matching distribution'); sys.exit(3)")
    with pytest.raises(SystemExit, match="make install: work failed with 3, its output is above; mend that"):
        install.run(command, lambda output: "working", install.Progress())
    assert "ERROR: no matching distribution" in capfd.readouterr().err


def test_without_a_terminal_progress_is_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(install, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(install, "_LINE_SECONDS", 0.0)
    # It ends when its line of progress was read once.
    script = "import pathlib, time\nprint('line', flush=True)\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    seen = tmp_path / "seen"

    def state(output: str) -> str:
        if output:
            seen.touch()
        return f"has {len(output.splitlines())} lines"

    install.run(module(tmp_path, script.format(str(seen))), state, install.Progress())
    shown = capfd.readouterr().err
    assert "      has 1 lines, 0 min" in shown
    assert "\r" not in shown


def test_on_a_terminal_the_line_is_replaced() -> None:
    controller, terminal = pty.openpty()
    program = (
        "from deploy.tools.install import Progress\n"
        "p = Progress(); p.show('collected 10 of 131 (a-long-name)')\n"
        "p.show('installed 1 of 131'); p.step('[3/3] done')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=install.ROOT, stderr=terminal, check=False, timeout=60)
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert done.returncode == 0
    assert [part.split(",")[0].strip() for part in shown.split("\r") if part.strip()] == [
        "collected 10 of 131 (a-long-name)",
        "installed 1 of 131",
        "[3/3] done",
    ]


def test_a_second_one_leaves_the_environment_of_the_first_alone(tmp_path: Path) -> None:
    target = tmp_path / "venv"
    first = lock_folder("make install", target)
    (target / "bin").mkdir()
    try:
        command = [sys.executable, "-m", "deploy.tools.install", str(target)]
        second = subprocess.run(
            command, cwd=install.ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
    finally:
        os.close(first)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"make install: another `make install` uses {target}; stop it first\n"
    assert [path.name for path in target.iterdir()] == ["bin"]


def test_make_install_and_what_needs_it_use_the_installer() -> None:
    makefile = (install.ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\t@$(PYTHON) -m deploy.tools.install $(VENV)\n" in makefile
    assert "--quiet" not in makefile.partition("$(VENV)/.installed:")[2].partition("\n\n")[0]
    for target in ("dev", "wizard", "test"):
        assert f"\n{target}: install " in makefile
