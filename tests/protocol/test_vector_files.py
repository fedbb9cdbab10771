"""The vector files match their generator, which is independent of the code under test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .vectors import FOLDER

GENERATOR = FOLDER / "make.py"


def test_the_generator_makes_exactly_the_committed_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-I", str(GENERATOR), str(tmp_path)], check=True, timeout=120)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    assert sorted(made) == sorted(committed)
    assert [name for name in made if made[name] != committed[name]] == []


def test_the_generator_imports_nothing_of_the_project() -> None:
    sources = [GENERATOR, *(FOLDER / "generator").glob("*.py")]
    texts = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    imported = re.findall(r"^\s*(?:import|from)\s+(\S+)", texts, re.MULTILINE)
    assert "hashlib" in imported
    assert [name for name in imported if name.split(".")[0] in {"sigil", "relay", "importlib"}] == []
