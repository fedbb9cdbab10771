"""`completion install`: where each shell looks, and what it then completes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console.test_streams import run
from tests.support.live import DEADLINE

FILES = {
    "bash": ".local/share/bash-completion/completions/{}",
    "fish": ".config/fish/completions/{}.fish",
    "zsh": ".local/share/zsh/site-functions/_{}",
}


@pytest.mark.parametrize("shell", FILES)
@pytest.mark.parametrize("program", ["sigil", "sigil-relay"])
def test_the_completion_is_installed_for_one_user_and_may_be_repeated(tmp_path: Path, program: str, shell: str) -> None:
    file = tmp_path / FILES[shell].format(program)
    for _ in range(2):
        done = run(f"{program} completion install", tmp_path, arguments=[], SHELL=f"/bin/{shell}")
        assert (done.code, done.err) == (0, b"")
        assert done.out.decode().startswith(f"Wrote {file}. ")
    shown = run(f"{program} completion show", tmp_path, arguments=[shell])
    assert shown.out.decode().strip() == file.read_text().strip()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_another_shell_is_one_line(tmp_path: Path) -> None:
    for shell in ("/bin/ksh", ""):
        refused = run("sigil completion install", tmp_path, arguments=[], SHELL=shell)
        assert (refused.code, refused.err.decode()) == (
            2,
            "sigil: Name the shell: bash, fish, zsh. Try 'sigil completion install --help'.\n",
        )


SCRIPTS = {
    "bash": "source {file}; COMP_WORDS=(sigil dev); COMP_CWORD=1; _sigil_completion sigil; echo ${{COMPREPLY[@]}}",
    "fish": "source {file}; complete -C 'sigil dev'",
    "zsh": "compdef() {{ :; }}; source {file}; compadd() {{ echo $@; }}; _describe() {{ eval echo \\$$3; }}; "
    "words=(sigil dev); CURRENT=2; commands[sigil]=1; _sigil_completion",
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_a_command(tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "completion"
    file.write_bytes(run("sigil completion show", tmp_path, arguments=[shell]).out)
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [shell, "-c", SCRIPTS[shell].format(file=file)],
        env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert "device" in done.stdout, done.stderr
