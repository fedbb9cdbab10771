"""What an installation gets, also one that is built from the source distribution."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def build(tree: Path, kind: str, into: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (made,) = into.iterdir()
    return made


def sources(package: str) -> set[str]:
    files = (file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(ROOT)) for file in files}


def test_a_wheel_made_from_the_source_distribution_has_both_packages_and_nothing_else(tmp_path: Path) -> None:
    # Not by tarfile: Debian 12's Python 3.11.2 has no `filter`, and newer ones ask for it.
    unpacked = tmp_path / "tree"
    unpacked.mkdir()
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", archive, "-C", unpacked], check=True)
    (tree,) = unpacked.iterdir()
    with zipfile.ZipFile(build(tree, "wheel", tmp_path / "wheel")) as wheel:
        shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == sources("sigil") | sources("relay")
