"""The functions that the scripts of deploy/stack share, in a folder without an engine."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import DEADLINE, wait_until

COMMON = Path(__file__).resolve().parents[2] / "deploy" / "stack" / "common.sh"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


class Folder:
    """Runs programs that source common.sh."""

    def __init__(self, path: Path, shell: str) -> None:
        self.path = path / "a folder"
        self.shell = ["busybox", "sh"] if shell == "busybox" else [shell]
        (self.path / "deploy" / "stack").mkdir(parents=True)
        shutil.copy(COMMON, self.path / "deploy" / "stack")

    def command(self, program: str) -> list[str]:
        script = self.path / "deploy" / "stack" / "program.sh"
        script.write_text(f'. "$(dirname "$0")/common.sh"\n{program}\n', encoding="utf-8")
        return [*self.shell, str(script)]

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(program), capture_output=True, text=True, check=False, timeout=DEADLINE, env={"PATH": "/bin"}
        )

    def start(self, program: str) -> subprocess.Popen[bytes]:
        """In a process group of its own, like a job of a terminal, with its Ctrl-C."""
        return subprocess.Popen(["env", "--default-signal=INT", *self.command(program)], start_new_session=True)


@pytest.fixture(params=SHELLS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    return Folder(tmp_path, request.param)


def test_a_command_that_starts_nothing_needs_no_setting_of_production(folder: Folder) -> None:
    """Compose rejects `ps`, `logs` and `down` too while one is missing."""
    shutil.copy(COMMON.parents[2] / "docker-compose.prod.yml", folder.path)
    (folder.path / ".env").write_text("SIGIL_PUBLIC_URL='https://sigil.example.com'\n", encoding="utf-8")
    ran = folder.run("allow_missing_settings\nenv")
    assert (ran.returncode, ran.stderr) == (0, "")
    missing = {line.removesuffix("=missing") for line in ran.stdout.splitlines() if line.endswith("=missing")}
    assert missing == {"RELAY_PUBLIC_URL", "SIGIL_ATTESTATION_REQUIRED"}
    for script in ("compose", "reset", "backup", "reload", "restore"):
        assert "allow_missing_settings" in (COMMON.parent / f"{script}.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x", "x"),
        ("A='x y'", "x y"),
        ("A='x y' # a comment", "x y"),
        ("A='a $b # c' ", "a $b # c"),
        ("A= x \t", "x"),
        ("A=x#y", "x#y"),
        ("A=x\nA=y", "y"),
        ("A=''", "default"),
        ("A='' # a comment", "default"),
        ("A=", "default"),
        ("#A=x", "default"),
        ("BA=x", "default"),
    ],
)
def test_a_setting_is_read_as_compose_reads_it(folder: Folder, line: str, value: str) -> None:
    """The values are those of Compose 1.29.2 and 2.26.1."""
    for end in ("\n", ""):
        (folder.path / ".env").write_text(line + end, encoding="utf-8")
        assert folder.run("setting A default").stdout == value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_runs_what_a_script_cleans_at_its_end(folder: Folder, number: signal.Signals) -> None:
    program = "on_exit 'echo 1 >>ended'\non_exit 'echo 2 >>ended'\necho >started\nsleep 60"
    process = folder.start(program)
    wait_until((folder.path / "started").exists, "the script")
    # Also to its children, as a terminal does.
    subprocess.run(["kill", f"-{number.name[3:]}", "--", f"-{process.pid}"], check=True)
    assert process.wait(DEADLINE) == 128 + number
    assert (folder.path / "ended").read_text() == "2\n1\n"


def test_one_command_at_a_time_changes_a_stack(folder: Folder) -> None:
    holder = folder.start("lock\necho >started\nsleep 60")
    try:
        wait_until((folder.path / "started").exists, "the lock")
        refused = folder.run("lock; echo entered")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"Another command changes this stack (process {holder.pid}): wait for it" in refused.stderr
        assert folder.run("SIGIL_STACK_LOCK=held; lock; echo entered").stdout == "entered\n", "of the same command"
    finally:
        holder.kill()
        subprocess.run(["kill", "-KILL", "--", f"-{holder.pid}"], check=False)
        holder.wait(DEADLINE)
    assert (folder.path / ".stack.lock").exists()
    assert folder.run("lock; echo entered").stdout == "entered\n", "the lock of a process that was killed"
    assert not (folder.path / ".stack.lock").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A=1\nB='\xc3\xa9'\n", ""),
        (b"\xef\xbb\xbfA=1\n", "1: it begins with a byte order mark: save the file as UTF-8 without one"),
        (b"A=1\nB=x\xc2\xa0\n", "2: it has a character that cannot be seen, such as a no-break space"),
        (b"# x\nB=\xe2\x80\x8bx\n", "2: it has a character that cannot be seen, such as a no-break space"),
        ("A=1\n".encode("utf-16"), "1: it has NUL characters, as UTF-16 text has: save the file as UTF-8"),
    ],
)
def test_what_an_editor_does_not_show_in_env_is_named(folder: Folder, content: bytes, expected: str) -> None:
    (folder.path / ".env").write_bytes(content)
    ended = folder.run("version=2.26\nenv_file_problems")
    assert ended.stdout.startswith(expected)
    assert len(ended.stdout.splitlines()) == bool(expected)
    assert ended.stderr == ""
