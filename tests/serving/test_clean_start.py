"""The variable by which a service passes its state to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd")
@pytest.mark.parametrize("module", ["sigil", "relay"])
@pytest.mark.parametrize("value", ["", "x", "-1", "0", "99", "9" * 30, "file", "memory"])
def test_a_value_of_another_origin_is_one_line(tmp_path: Path, module: str, value: str) -> None:
    passed = -1
    if value == "file":
        passed = os.open(tmp_path / "state", os.O_RDWR | os.O_CREAT)
    elif value == "memory":
        passed = os.memfd_create("start")
    if passed >= 0:
        os.write(passed, b"cposix\nsystem\n(S'touch executed'\ntR.")
        os.lseek(passed, 0, os.SEEK_SET)
    done = subprocess.run(
        [sys.executable, "-m", module, "serve"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "_SERVICE_START_STATE": value if passed < 0 else str(passed),
        },
        pass_fds=[passed] if passed >= 0 else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if passed >= 0:
        os.close(passed)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "_SERVICE_START_STATE is set: only the service itself may set it; unset it" in line
    assert not (tmp_path / "executed").exists()
